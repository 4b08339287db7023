"""Batches: from one body to many queued jobs, and from their clips to one zip."""
