"""One clip from its request to its frames: encode, denoise, decode."""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any, Final

import torch
from PIL import Image as PillowImage

from shared.lifecycle import Stage
from worker.engines.base import Frames, Image, OnStep, RenderRequest, Step
from worker.engines.diffusion.clip_loop import latents_of, seeded
from worker.engines.diffusion.compiled_blocks import CompiledBlocks
from worker.engines.diffusion.encodings import Encodings
from worker.engines.diffusion.levels import to_frames
from worker.engines.diffusion.preview import Previews, fit_by_encoding, middle_of_times
from worker.engines.framing import frame_image
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
    encodings: Encodings,
    compiled: CompiledBlocks | None = None,
) -> Iterator[Frames]:
    """Yield the clip's frames: the first alone, then four at a time.

    Args:
        compiled: the code for warmed clips; None renders all clips eagerly.

    Raises:
        NonFiniteFrames: the model produced NaN or infinity.
    """
    asked = request.parameters
    clip = (asked.width, asked.height, frames_rendered(model, asked.num_frames))
    with nullcontext() if compiled is None else compiled.serving(clip):
        latents = clip_latents(model, request, on_step, encodings=encodings)
    model.seats.clear()
    done, total = 0, asked.num_frames
    for pixels in decode_streamed(model.vae, latents):
        frames = to_frames(pixels)[: total - done]
        if not len(frames):
            return
        done += len(frames)
        on_step(Step(done, total, Stage.DECODING))
        yield frames


def clip_latents(
    model: Model, request: RenderRequest, on_step: OnStep, *, encodings: Encodings
) -> torch.Tensor:
    """Return the clip's latents, (1, channels, frames, h, w), float32."""
    asked = request.parameters
    frame = _framed(request.image, request)
    previews = Previews(
        fit_by_encoding(
            partial(encoded, model.vae), frame, multiple=MULTIPLE, device=model.device
        ),
        steps=asked.num_inference_steps,
        one_frame=middle_of_times,
    )
    prompt = encode_prompt(model, encodings, asked.prompt)
    unguided = None
    if asked.guidance_scale > 1:
        unguided = encode_prompt(model, encodings, asked.negative_prompt)
    on_step(Step(1, 1, Stage.ENCODING_INPUTS))
    arguments: dict[str, Any] = {
        "image": PillowImage.fromarray(frame),
        "prompt_embeds": prompt,
        "negative_prompt_embeds": unguided,
        "width": asked.width,
        "height": asked.height,
        "num_frames": frames_rendered(model, asked.num_frames),
        "guidance_scale": asked.guidance_scale,
        "generator": seeded(asked.seed),
    }
    if request.last_frame is not None:
        arguments["last_image"] = PillowImage.fromarray(_framed(request.last_frame, request))
    return latents_of(
        model.pipeline,
        arguments,
        on_step,
        steps=asked.num_inference_steps,
        device=model.device,
        previews=previews,
    )


def encoded(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Return the latents of one image, in the units that the denoiser works in."""
    latents = vae.encode(pixels[:, :, None].to(vae.dtype)).latent_dist.mode()[0, :, 0].float()
    mean = torch.tensor(vae.config.latents_mean, device=latents.device)[:, None, None]
    spread = torch.tensor(vae.config.latents_std, device=latents.device)[:, None, None]
    return (latents - mean) / spread


def frames_rendered(model: Model, asked: int) -> int:
    """Return how many frames the model makes: the next of 1, 5, 9, …; the extra frames are cut."""
    per_latent = int(model.vae.config.scale_factor_temporal)
    return 1 + -(-(asked - 1) // per_latent) * per_latent


def _framed(image: Image, request: RenderRequest) -> Image:
    asked = request.parameters
    return frame_image(image, width=asked.width, height=asked.height, fit=asked.fit)
