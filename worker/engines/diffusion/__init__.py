"""What the engines of diffusion models share: checkpoints, loading, the loop over a pipeline."""
