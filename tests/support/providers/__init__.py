"""Stand-ins for providers of hosted models; tests hold them to the providers' official SDKs."""
