"""Wan in memory: its parts on one device, and diffusers' pipeline over them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import diffusers
import torch
from diffusers import AutoencoderKLWan, WanImageToVideoPipeline, WanTransformer3DModel
from transformers import T5Tokenizer, UMT5EncoderModel

from shared.errors import MissingWeights
from worker.engines.base import OnProgress
from worker.engines.diffusion.checkpoint import Checkpoint, names_part
from worker.engines.diffusion.clip_loop import whole_latents
from worker.engines.diffusion.encodings import Encodings
from worker.engines.diffusion.memory import takes_turns
from worker.engines.diffusion.parts import precision, read_part, weight_bytes, weighted_part
from worker.engines.diffusion.seats import Seats
from worker.engines.wan.checkpoint import SECOND_EXPERT

SCHEDULERS: Final = ("UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler")
MASK_CHANNELS: Final = 4
"""A14B gets a mask of which of the four frames of a latent are given."""


class Pipeline(WanImageToVideoPipeline):
    """The stock pipeline without its text encoder: our code moves that, and keeps its results."""

    @property
    def _execution_device(self) -> torch.device:
        # The pipeline itself would take the first part that it finds, and that may be on the host.
        found: torch.device = self.vae.device
        return found


@dataclass(frozen=True)
class Model:
    """The parts of Wan on one device; the scheduler and the tokenizer stay on the host."""

    tokenizer: Any
    text_encoder: Any
    pipeline: Any
    seats: Seats
    device: torch.device
    dtype: torch.dtype
    encodings: Encodings = field(default_factory=Encodings)

    @property
    def vae(self) -> Any:
        return self.pipeline.vae

    @property
    def experts(self) -> list[Any]:
        found = (getattr(self.pipeline, name) for name in ("transformer", SECOND_EXPERT))
        return [expert for expert in found if expert is not None]

    @property
    def weighted(self) -> Mapping[str, Any]:
        """Return the parts with weights, by name."""
        experts = ("transformer", SECOND_EXPERT)
        found = {name: getattr(self.pipeline, name) for name in experts}
        given = {name: part for name, part in found.items() if part is not None}
        return {"text_encoder": self.text_encoder, "vae": self.vae, **given}

    def frames_rendered(self, asked: int) -> int:
        """Return how many frames the model makes (1, 5, 9, …), of which the rest is cut."""
        return whole_latents(asked, int(self.vae.config.scale_factor_temporal))


def load_model(
    checkpoint: Checkpoint,
    device: torch.device,
    on_progress: OnProgress,
    *,
    memory: Literal["auto", "normal", "low"],
) -> Model:
    """Return the model on `device`, in that device's precision.

    The VAE stays there; in low memory the large parts take turns.

    Raises:
        MissingWeights: a part cannot be read, or is not what its config says.
    """
    index = checkpoint.index
    dtype = precision(device)
    # In float32, as its authors run it: 2.8 GB of TI2V-5B's weights.
    vae = weighted_part(checkpoint, "vae", AutoencoderKLWan, torch.float32)
    on_progress(0.05, "loading vae")
    text_encoder = weighted_part(checkpoint, "text_encoder", UMT5EncoderModel, dtype)
    on_progress(0.4, "loading text_encoder")
    experts = {
        "transformer": weighted_part(checkpoint, "transformer", WanTransformer3DModel, dtype)
    }
    if names_part(index, SECOND_EXPERT):
        on_progress(0.7, "loading transformer")
        experts[SECOND_EXPERT] = weighted_part(
            checkpoint, SECOND_EXPERT, WanTransformer3DModel, dtype
        )
    for name, expert in experts.items():
        _check_fits(name, expert, vae, text_encoder, index)
    tokenizer = read_part("tokenizer", T5Tokenizer.from_pretrained, checkpoint)
    pipeline = Pipeline(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        scheduler=_scheduler(checkpoint),
        boundary_ratio=_boundary(index),
        expand_timesteps=bool(index.get("expand_timesteps")),
        **experts,
    )
    pipeline.set_progress_bar_config(disable=True)
    on_progress(0.9, "loading the transformers")
    large = [text_encoder, *experts.values()]
    turns = takes_turns(memory, device, weights_bytes=weight_bytes([vae, *large]))
    vae.to(device)
    seats = Seats(large, device, one_at_a_time=turns)
    on_progress(1.0, "on the device")
    return Model(tokenizer, text_encoder, pipeline, seats, device, dtype)


def _scheduler(checkpoint: Checkpoint) -> Any:
    path = checkpoint.part("scheduler") / "scheduler_config.json"
    try:
        kind = json.loads(path.read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MissingWeights(
            "scheduler/scheduler_config.json names no class: get the checkpoint again"
        ) from error
    if kind not in SCHEDULERS:
        raise MissingWeights(
            f"the checkpoint's scheduler is {kind}, and wan needs {' or '.join(SCHEDULERS)}"
        )
    return read_part("scheduler", getattr(diffusers, kind).from_pretrained, checkpoint)


def _boundary(index: Mapping[str, Any]) -> float | None:
    """Return the share of the noise below which the second expert works; None for one expert."""
    if not names_part(index, SECOND_EXPERT):
        return None
    ratio = index.get("boundary_ratio")
    if isinstance(ratio, float) and 0 < ratio < 1:
        return ratio
    raise MissingWeights(
        "the checkpoint has two experts, and model_index.json has no boundary_ratio between 0"
        " and 1 that says when the second takes over: get the checkpoint again"
    )


def _check_fits(
    name: str, expert: Any, vae: Any, text_encoder: Any, index: Mapping[str, Any]
) -> None:
    """Refuse parts that are complete but do not belong together."""
    latents = vae.config.z_dim
    takes, gives = expert.config.in_channels, expert.config.out_channels
    if expert.config.image_dim is not None:
        raise MissingWeights(
            f"{name} wants CLIP's view of the image, as Wan 2.1 does; wan serves Wan 2.2:"
            " TI2V-5B, or I2V-A14B"
        )
    wanted = latents if index.get("expand_timesteps") else 2 * latents + MASK_CHANNELS
    if takes != wanted or gives != latents:
        raise MissingWeights(
            f"{name} takes {takes} channels and gives {gives}, and an image-to-video one over this"
            f" VAE takes {wanted} and gives {latents}: is this a text-to-video checkpoint?"
        )
    if expert.config.text_dim != text_encoder.config.d_model:
        raise MissingWeights(
            f"{name} reads texts of width {expert.config.text_dim}, and text_encoder writes"
            f" {text_encoder.config.d_model}: get the checkpoint again"
        )
