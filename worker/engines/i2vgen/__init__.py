"""I2VGen-XL in parts: its weights, what steers it, its steps, its denoising, its frames."""
