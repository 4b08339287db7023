"""The colours of an image by its file, and the same in sRGB."""
