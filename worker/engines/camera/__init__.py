"""The camera engine: moves a virtual camera over the image, without a model."""
