"""The one door for outgoing HTTP."""
