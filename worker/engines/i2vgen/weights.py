"""The model in memory: every part loaded from a checked folder onto one device."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, DDIMScheduler, I2VGenXLUNet
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from shared.errors import MissingWeights
from worker.engines.base import OnProgress
from worker.engines.diffusion.checkpoint import Checkpoint
from worker.engines.diffusion.encodings import Encodings
from worker.engines.diffusion.parts import precision, read_part, weighted_part
from worker.engines.i2vgen.context import attend_to_kept_context
from worker.engines.i2vgen.flat_conv import flatten_temporal_convolutions

CLASSES: Final[tuple[tuple[str, Any, float], ...]] = (
    # Each part's class, and its share of the bytes, which gives the progress of a load.
    ("vae", AutoencoderKL, 0.04),
    ("text_encoder", CLIPTextModel, 0.18),
    ("image_encoder", CLIPVisionModelWithProjection, 0.43),
    ("unet", I2VGenXLUNet, 1.0),
)


@dataclass(frozen=True)
class Model:
    """The parts of I2VGen-XL on one device; the scheduler and the tokenizer stay on the host."""

    tokenizer: Any
    text_encoder: Any
    image_encoder: Any
    vae: Any
    unet: Any
    scheduler: Any
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    device: torch.device
    dtype: torch.dtype
    encodings: Encodings = field(default_factory=Encodings)

    @property
    def weighted(self) -> Mapping[str, Any]:
        """Return the parts with weights, by name."""
        names = ("text_encoder", "image_encoder", "vae", "unet")
        return {name: getattr(self, name) for name in names}

    @property
    def pixels_per_latent(self) -> int:
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))


def load_model(
    checkpoint: Checkpoint,
    device: torch.device,
    on_progress: OnProgress,
    *,
    encoders_stay: bool = True,
) -> Model:
    """Return the model on `device`, in that device's precision.

    Args:
        encoders_stay: False leaves the two encoders on the host until a clip needs them.

    Raises:
        MissingWeights: a part cannot be read, or some of its weights are not in the file.
    """
    dtype = precision(device)
    parts: dict[str, Any] = {}
    for name, kind, share in CLASSES:
        stays = encoders_stay or not name.endswith("_encoder")
        parts[name] = weighted_part(checkpoint, name, kind, dtype).to(device if stays else "cpu")
        on_progress(share, f"loading {name}")
    mean, std = _normalisation(checkpoint)
    prepare(parts["unet"])
    return Model(
        tokenizer=read_part("tokenizer", CLIPTokenizer.from_pretrained, checkpoint),
        scheduler=read_part("scheduler", DDIMScheduler.from_pretrained, checkpoint),
        pixel_mean=mean,
        pixel_std=std,
        device=device,
        dtype=dtype,
        **parts,
    )


def prepare(unet: Any) -> None:
    """Prepare the UNet for `Denoiser`: the same weights and arithmetic, in fewer steps."""
    attend_to_kept_context(unet)
    flatten_temporal_convolutions(unet)


def _normalisation(checkpoint: Checkpoint) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the standard deviation that normalise CLIP's pixels.

    They are read from the file, because the library's image processor resamples in another way if
    torchvision is installed.
    """
    path = checkpoint.part("feature_extractor") / "preprocessor_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return tuple(config["image_mean"]), tuple(config["image_std"])
    except (OSError, ValueError, KeyError) as error:
        raise MissingWeights(
            "feature_extractor/preprocessor_config.json has no image_mean and image_std:"
            " get the checkpoint again"
        ) from error
