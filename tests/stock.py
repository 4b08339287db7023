"""Diffusers' own pipeline, made comparable: the reference that ours is held against."""

from types import SimpleNamespace
from typing import Any

import torch
from diffusers import I2VGenXLPipeline


class GivenSample(I2VGenXLPipeline):
    """The stock pipeline, handed the VAE's sample of its picture instead of drawing it."""

    given: torch.Tensor

    def prepare_image_latents(self, *given: Any, **options: Any) -> torch.Tensor:
        self.vae.encode = lambda pixels: SimpleNamespace(latent_dist=self)
        try:
            return super().prepare_image_latents(*given, **options)
        finally:
            del self.vae.encode

    def sample(self) -> torch.Tensor:
        return self.given


def shimmed(pipeline: Any) -> Any:
    """Return the pipeline with the attribute of its text encoder that transformers 5 removed.

    Its default call fails without.
    """
    object.__setattr__(pipeline.text_encoder, "text_model", pipeline.text_encoder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
