"""I2VGen-XL in parts: its weights, its conditions, its steps, its denoising, its frames."""
