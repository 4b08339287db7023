"""The keeper: it repairs, rings, delivers and expires."""
