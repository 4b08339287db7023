"""One clip from its request to its frames: encode, denoise, decode."""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any, Final

import torch
from PIL import Image as PillowImage

from shared.lifecycle import Stage
from worker.engines.base import Frames, OnStep, RenderRequest, Step
from worker.engines.diffusion.clip_loop import latents_of, seeded
from worker.engines.diffusion.compiled_blocks import CompiledBlocks
from worker.engines.diffusion.levels import to_frames, told_as_decoded
from worker.engines.diffusion.preview import fit_by_encoding, middle_of_times
from worker.engines.framing import framed
from worker.engines.wan.decode import decode_streamed
from worker.engines.wan.model import Model
from worker.engines.wan.text import encode_prompt

MULTIPLE: Final = 32
"""In pixels, for both VAEs and for the denoisers' patches."""


def render_clip(
    model: Model,
    request: RenderRequest,
    on_step: OnStep,
    *,
    compiled: CompiledBlocks | None = None,
) -> Iterator[Frames]:
    """Yield the clip's frames: the first alone, then four at a time.

    Args:
        compiled: the code for warmed clips; None renders all clips eagerly.

    Raises:
        NonFiniteFrames: the model produced NaN or infinity.
    """
    asked = request.parameters
    clip = (asked.width, asked.height, model.frames_rendered(asked.num_frames))
    with nullcontext() if compiled is None else compiled.serving(clip):
        latents = clip_latents(model, request, on_step)
    model.seats.clear()
    chunks = map(to_frames, decode_streamed(model.vae, latents))
    yield from told_as_decoded(chunks, asked.num_frames, on_step)


def clip_latents(model: Model, request: RenderRequest, on_step: OnStep) -> torch.Tensor:
    """Return the clip's latents, (1, channels, frames, h, w), float32."""
    asked = request.parameters
    frame = framed(request.image, asked)
    encode = partial(encoded, model.vae)
    latent_map = fit_by_encoding(encode, frame, multiple=MULTIPLE, device=model.device)
    prompt = encode_prompt(model, asked.prompt)
    unguided = None
    if asked.guidance_scale > 1:
        unguided = encode_prompt(model, asked.negative_prompt)
    on_step(Step(1, 1, Stage.ENCODING_INPUTS))
    arguments: dict[str, Any] = {
        "image": PillowImage.fromarray(frame),
        "prompt_embeds": prompt,
        "negative_prompt_embeds": unguided,
        "width": asked.width,
        "height": asked.height,
        "num_frames": model.frames_rendered(asked.num_frames),
        "guidance_scale": asked.guidance_scale,
        "generator": seeded(asked.seed),
    }
    if request.last_frame is not None:
        arguments["last_image"] = PillowImage.fromarray(framed(request.last_frame, asked))
    return latents_of(
        model.pipeline,
        arguments,
        on_step,
        steps=asked.num_inference_steps,
        device=model.device,
        latent_map=latent_map,
        one_frame=middle_of_times,
    )


def encoded(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Return the latents of one image, in the units that the denoiser works in."""
    latents = vae.encode(pixels[:, :, None].to(vae.dtype)).latent_dist.mode()[0, :, 0].float()
    mean = torch.tensor(vae.config.latents_mean, device=latents.device)[:, None, None]
    spread = torch.tensor(vae.config.latents_std, device=latents.device)[:, None, None]
    return (latents - mean) / spread
