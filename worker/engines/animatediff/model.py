"""AnimateDiff in memory: a model for still images with motion modules, and SparseCtrl."""

import json
from typing import Any, Final

import torch
from diffusers import (
    AnimateDiffSparseControlNetPipeline,
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    MotionAdapter,
    SparseControlNetModel,
    UNet2DConditionModel,
    UNetMotionModel,
)
from transformers import CLIPTextModel, CLIPTokenizer

from shared.errors import MissingWeights
from worker.engines.animatediff.checkpoint import MOST_FRAMES
from worker.engines.base import OnProgress
from worker.engines.diffusion.checkpoint import Checkpoint
from worker.engines.diffusion.parts import UNREADABLE, precision, read_part, weighted_part
from worker.engines.diffusion.whole_pipeline import WholePipeline


class Pipeline(AnimateDiffSparseControlNetPipeline):
    """The stock pipeline, which gets the keyframes as VAE latents.

    By itself it draws a sample of these latents with the process's own random numbers, so one seed
    would not give one clip.
    """

    def prepare_image(self, image: Any, *size: Any) -> torch.Tensor:
        """Return (1, channels, keyframes, h, w), unchanged."""
        found: torch.Tensor = image
        return found

    def check_image(self, image: Any, *texts: Any) -> None:
        """Check nothing, because the keyframes are latents and not images."""


class Model(WholePipeline):
    names = ("text_encoder", "vae", "unet", "controlnet")  # The motion modules are in the unet.


def load_model(checkpoint: Checkpoint, device: torch.device, on_progress: OnProgress) -> Model:
    """Return the model on `device`, in that device's precision.

    Raises:
        MissingWeights: a part cannot be read, or is not what its config says.
    """
    dtype = precision(device)
    vae = weighted_part(checkpoint, "vae", AutoencoderKL, dtype)
    text_encoder = weighted_part(checkpoint, "text_encoder", CLIPTextModel, dtype)
    on_progress(0.2, "loading text_encoder")
    unet = _unet(checkpoint, dtype)
    on_progress(0.7, "loading unet")
    controlnet = weighted_part(checkpoint, "controlnet", SparseControlNetModel, dtype)
    _check_fits(unet, controlnet, vae, text_encoder)
    pipeline = Pipeline(
        vae=vae.to(device),
        text_encoder=text_encoder.to(device),
        tokenizer=read_part("tokenizer", CLIPTokenizer.from_pretrained, checkpoint),
        unet=unet.to(device),
        motion_adapter=None,
        controlnet=controlnet.to(device),
        scheduler=new_scheduler(),
    )
    pipeline.set_progress_bar_config(disable=True)
    on_progress(1.0, "loading controlnet")
    return Model(pipeline, device, dtype)


def new_scheduler() -> Any:
    """Return the sampler that diffusers names for SparseCtrl.

    The motion modules learned with linear betas. The scheduler of a base model for still images
    has other betas, and motion breaks up with them.
    """
    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="linear",
        algorithm_type="dpmsolver++",
        use_karras_sigmas=True,
    )
    # As an array, because numpy 2 warns about the library's way of making one from a tensor.
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.numpy()
    return scheduler


def _unet(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """Return the denoiser for clips: as saved, or one for still images with the motion modules."""
    motion = weighted_part(checkpoint, "motion_adapter", MotionAdapter, dtype)
    if _class_of(checkpoint, "unet") == UNetMotionModel.__name__:
        return weighted_part(checkpoint, "unet", UNetMotionModel, dtype)
    still = weighted_part(checkpoint, "unet", UNet2DConditionModel, dtype)
    try:
        made = UNetMotionModel.from_unet2d(still, motion)
    except UNREADABLE as error:
        raise MissingWeights(
            "motion_adapter does not fit the unet: take the motion module of the same Stable"
            " Diffusion, 1.5"
        ) from error
    return made.eval().requires_grad_(False)


def _class_of(checkpoint: Checkpoint, name: str) -> object:
    try:
        config = json.loads(checkpoint.part(name).joinpath("config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return config.get("_class_name") if isinstance(config, dict) else None


LATENTS: Final = 4


def _check_fits(unet: Any, controlnet: Any, vae: Any, text_encoder: Any) -> None:
    """Refuse parts that are complete but do not belong together."""
    if not controlnet.config.use_simplified_condition_embedding:
        raise MissingWeights(
            "controlnet reads sketches, as SparseCtrl's scribble does; animatediff needs the one"
            " that reads images: guoyww/animatediff-sparsectrl-rgb"
        )
    latents = vae.config.latent_channels
    taken = {unet.config.in_channels, controlnet.config.in_channels}
    if {*taken, unet.config.out_channels, controlnet.config.conditioning_channels} != {latents}:
        raise MissingWeights(
            f"unet, controlnet and vae do not agree on the number of channels, which is {latents}"
            " for the vae: take all parts of Stable Diffusion 1.5"
        )
    if tuple(unet.config.block_out_channels) != tuple(controlnet.config.block_out_channels):
        raise MissingWeights(
            "controlnet has other blocks than the unet: take both for Stable Diffusion 1.5"
        )
    for name, part in (("unet", unet), ("controlnet", controlnet)):
        if part.config.cross_attention_dim != text_encoder.config.hidden_size:
            raise MissingWeights(
                f"{name} reads texts of width {part.config.cross_attention_dim}, and text_encoder"
                f" writes {text_encoder.config.hidden_size}: get the checkpoint again"
            )
        if part.config.motion_max_seq_length < MOST_FRAMES:
            raise MissingWeights(
                f"{name}'s motion modules were taught {part.config.motion_max_seq_length} frames,"
                f" and animatediff makes up to {MOST_FRAMES}: take those of v1-5-2 or v1-5-3"
            )
