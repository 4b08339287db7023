"""Diffusers' own pipeline, made comparable: the reference for ours."""

from types import SimpleNamespace
from typing import Any

import torch
from diffusers import I2VGenXLPipeline
from PIL import Image as PillowImage

from worker.engines.base import RenderRequest
from worker.engines.i2vgen.conditions import Conditions, Noise


class GivenSample(I2VGenXLPipeline):
    """The stock pipeline with a given VAE sample of its image instead of a random one."""

    given: torch.Tensor

    def render(
        self, request: RenderRequest, noise: Noise, latents: torch.Tensor, output: str = "pil"
    ) -> Any:
        """Return the clip's frames; its latents (1, 4, frames, h, w) for the output "latent".

        Args:
            latents: those of the conditions; their first frame is the image's sample.
        """
        scaling = self.vae.config.scaling_factor
        self.given = (latents[:, :, 0] / scaling).to(self.device, self.dtype)
        parameters = request.parameters
        return self(
            prompt=parameters.prompt,
            negative_prompt=parameters.negative_prompt,
            image=PillowImage.fromarray(request.image),
            width=parameters.width,
            height=parameters.height,
            target_fps=parameters.fps,
            num_frames=parameters.num_frames,
            num_inference_steps=parameters.num_inference_steps,
            guidance_scale=parameters.guidance_scale,
            latents=noise.clip.to(self.device, self.dtype),
            output_type=output,
        ).frames

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


@torch.inference_mode()
def stock_prediction(
    unet: Any, given: Conditions, latents: torch.Tensor, when: int, scale: float
) -> torch.Tensor:
    """Return the stock pipeline's guided prediction, computed in its own dtype, in float32."""
    rows = len(given.text)
    unguided, guided = unet(
        latents.to(unet.dtype).repeat(rows, 1, 1, 1, 1),
        when,
        fps=torch.tensor([given.fps] * rows, device=latents.device),
        image_latents=given.latents.to(unet.dtype).repeat(rows, 1, 1, 1, 1),
        image_embeddings=given.image[:, 0],
        encoder_hidden_states=given.text,
    ).sample.chunk(2)
    combined: torch.Tensor = (unguided + scale * (guided - unguided)).float()
    return combined
