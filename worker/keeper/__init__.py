"""The keeper: what repairs, rings, delivers and expires."""
