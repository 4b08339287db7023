"""Protocols that other clients speak: translations onto the same functions, no rows."""
