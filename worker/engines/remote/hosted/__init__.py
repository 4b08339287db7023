"""Models that a provider hosts: what is said to each, and what its answers mean."""
