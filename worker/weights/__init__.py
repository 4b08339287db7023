"""The weights on this machine: which there are, getting them, and small ones to try with."""
