"""Any image-to-video class of diffusers, from a folder that the operator names."""
