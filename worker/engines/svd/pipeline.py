"""One clip from its request to its frames: denoise, decode."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import torch
from PIL import Image as PillowImage

from worker.engines.base import Frames, OnStep, RenderRequest
from worker.engines.diffusion.clip_loop import latents_of, seeded
from worker.engines.diffusion.levels import to_frames, told_as_decoded
from worker.engines.diffusion.preview import fit_by_encoding, middle_of_frames
from worker.engines.framing import framed
from worker.engines.svd.model import Model

MULTIPLE: Final = 64  # In pixels, as in the spec.


def render_clip(
    model: Model, request: RenderRequest, on_step: OnStep, *, decode_frames: int
) -> Iterator[Frames]:
    """Yield the clip's frames, `decode_frames` at a time.

    The decoder's convolutions in time see one chunk, so its size changes the clip.

    Raises:
        NonFiniteFrames: the model produced NaN or infinity.
    """
    latents = clip_latents(model, request, on_step)[0]
    chunks = (to_frames(_decode(model, each)) for each in latents.split(decode_frames))
    yield from told_as_decoded(chunks, len(latents), on_step)


def clip_latents(model: Model, request: RenderRequest, on_step: OnStep) -> torch.Tensor:
    """Return the clip's latents, (1, frames, channels, h, w)."""
    asked = request.parameters
    frame = framed(request.image, asked)
    arguments = {
        "image": PillowImage.fromarray(frame),
        "width": asked.width,
        "height": asked.height,
        "num_frames": asked.num_frames,
        "fps": asked.fps,
        "max_guidance_scale": asked.guidance_scale,
        "generator": seeded(asked.seed),
    }
    encode = partial(encoded, model.vae)
    return latents_of(
        model.pipeline,
        arguments,
        on_step,
        steps=asked.num_inference_steps,
        device=model.device,
        latent_map=fit_by_encoding(encode, frame, multiple=MULTIPLE, device=model.device),
        one_frame=middle_of_frames,
    )


def encoded(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Return the latents of one image, in the units that the denoiser works in."""
    latents: torch.Tensor = vae.encode(pixels.to(vae.dtype)).latent_dist.mode()[0]
    return latents.float() * vae.config.scaling_factor


@torch.no_grad()
def _decode(model: Model, latents: torch.Tensor) -> torch.Tensor:
    """Return pixels (3, n, height, width), -1 to 1, of latents (n, channels, h, w)."""
    scaled = latents.to(model.vae.dtype) / model.vae.config.scaling_factor
    pixels: torch.Tensor = model.vae.decode(scaled, num_frames=len(latents)).sample
    return pixels.transpose(0, 1)
