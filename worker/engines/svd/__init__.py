"""Stable Video Diffusion, svd and svd-xt: an image alone becomes a clip, without any text."""
