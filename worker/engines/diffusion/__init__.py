"""Code shared by the engines of diffusion models: checkpoints, loading, the loop over a
pipeline."""
