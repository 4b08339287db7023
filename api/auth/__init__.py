"""The caller of a request: keys, anonymous callers, rates."""
