"""What image files say outside of their pixels, read in Python within bounds."""
