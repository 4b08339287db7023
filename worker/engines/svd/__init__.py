"""Stable Video Diffusion, svd and svd-xt: a picture alone becomes a clip, without any text."""
