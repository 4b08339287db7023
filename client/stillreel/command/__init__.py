"""The command `stillreel`."""
