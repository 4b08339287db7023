"""API keys: what a key is, and the rows that keep them."""
