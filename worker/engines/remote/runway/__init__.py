"""Runway's API: one key for its own models and for those of others that it hosts."""
