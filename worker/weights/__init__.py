"""The weights on this machine: listing, downloading, and making small ones to try with."""
