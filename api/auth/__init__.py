"""Who is asking: keys, anonymous callers, rates."""
