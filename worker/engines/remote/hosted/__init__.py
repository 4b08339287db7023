"""Models that a provider hosts: the requests to each, and the meaning of its answers."""
