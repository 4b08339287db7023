"""Stable Video Diffusion in memory: its parts on one device, under diffusers' pipeline."""

from typing import Any, Final

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from shared.errors import MissingWeights
from worker.engines.base import OnProgress
from worker.engines.diffusion.checkpoint import Checkpoint
from worker.engines.diffusion.parts import precision, read_part, weighted_part
from worker.engines.diffusion.whole_pipeline import WholePipeline

LOOKED_AT: Final = 224
"""The pipeline gives the image encoder an image of this side, whatever the encoder is."""


class Model(WholePipeline):
    names = ("vae", "image_encoder", "unet")


def load_model(checkpoint: Checkpoint, device: torch.device, on_progress: OnProgress) -> Model:
    """Return the model on `device`, in that device's precision.

    Raises:
        MissingWeights: a part cannot be read, or is not what its config says.
    """
    dtype = precision(device)
    # The VAE overflows in float16, so the stock pipeline converts it to float32 and back for its
    # encoder.
    of_vae = torch.float32 if dtype is torch.float16 else dtype
    vae = weighted_part(checkpoint, "vae", AutoencoderKLTemporalDecoder, of_vae)
    on_progress(0.1, "loading vae")
    encoder = weighted_part(checkpoint, "image_encoder", CLIPVisionModelWithProjection, dtype)
    on_progress(0.4, "loading image_encoder")
    unet = weighted_part(checkpoint, "unet", UNetSpatioTemporalConditionModel, dtype)
    _check_fits(unet, vae, encoder)
    pipeline = StableVideoDiffusionPipeline(
        vae=vae.to(device),
        image_encoder=encoder.to(device),
        unet=unet.to(device),
        scheduler=_scheduler(checkpoint),
        feature_extractor=read_part(
            "feature_extractor", CLIPImageProcessor.from_pretrained, checkpoint
        ),
    )
    pipeline.set_progress_bar_config(disable=True)
    on_progress(1.0, "loading unet")
    return Model(pipeline, device, dtype)


def _scheduler(checkpoint: Checkpoint) -> Any:
    scheduler = read_part("scheduler", EulerDiscreteScheduler.from_pretrained, checkpoint)
    # As an array, because numpy 2 warns about the library's way of making one from a tensor.
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.numpy()
    return scheduler


def _check_fits(unet: Any, vae: Any, encoder: Any) -> None:
    """Refuse parts that are complete but do not belong together."""
    latents = vae.config.latent_channels
    if unet.config.in_channels != 2 * latents or unet.config.out_channels != latents:
        raise MissingWeights(
            f"unet takes {unet.config.in_channels} channels and gives {unet.config.out_channels},"
            f" and one over this VAE takes {2 * latents} and gives {latents}"
        )
    if encoder.config.image_size != LOOKED_AT:
        raise MissingWeights(
            f"image_encoder reads images of {encoder.config.image_size} pixels,"
            f" and svd shows it {LOOKED_AT}: get the checkpoint again"
        )
    if unet.config.cross_attention_dim != encoder.config.projection_dim:
        raise MissingWeights(
            f"unet reads images of width {unet.config.cross_attention_dim}, and image_encoder"
            f" writes {encoder.config.projection_dim}: get the checkpoint again"
        )
