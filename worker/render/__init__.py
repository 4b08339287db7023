"""From a bell to a finished job."""
