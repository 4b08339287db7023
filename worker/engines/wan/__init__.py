"""Wan 2.2 image to video by diffusers' pipeline: TI2V-5B, and A14B's layout of two experts."""
