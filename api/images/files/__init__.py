"""What the files of pictures say outside of their pixels, read in Python within bounds."""
