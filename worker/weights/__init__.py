"""The weights on this machine: listing them, downloading them, and making small ones to try
with."""
