"""Code shared by the engines of diffusion models: checkpoints, loading, the pipeline's loop."""
