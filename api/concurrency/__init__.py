"""Bulkheads, memory for bodies, single-flight reads, and waiting for jobs."""
