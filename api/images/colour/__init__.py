"""Which colours a picture means, and the same in sRGB."""
