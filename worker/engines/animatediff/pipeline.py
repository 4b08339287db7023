"""One clip from its request to its frames: encode, denoise, decode."""

from collections.abc import Iterator

import torch

from shared.lifecycle import Stage
from worker.engines.animatediff.footprint import DECODED_AT_ONCE
from worker.engines.animatediff.model import Model
from worker.engines.base import Frames, Image, OnStep, RenderRequest, Step
from worker.engines.diffusion.clip_loop import latents_of, seeded
from worker.engines.diffusion.encodings import Encodings
from worker.engines.diffusion.levels import to_frames
from worker.engines.diffusion.preview import Previews, fit, middle_of_times
from worker.engines.framing import frame_image


def render_clip(
    model: Model, request: RenderRequest, on_step: OnStep, *, encodings: Encodings
) -> Iterator[Frames]:
    """Yield the clip's frames, a few at a time, because the VAE decodes each frame alone.

    Raises:
        NonFiniteFrames: the model produced NaN or infinity.
    """
    latents = clip_latents(model, request, on_step, encodings=encodings)[0]
    total = latents.shape[1]
    for first in range(0, total, DECODED_AT_ONCE):
        chunk = latents[:, first : first + DECODED_AT_ONCE].transpose(0, 1)
        frames = to_frames(_decode(model, chunk).transpose(0, 1))
        on_step(Step(first + len(frames), total, Stage.DECODING))
        yield frames


def clip_latents(
    model: Model, request: RenderRequest, on_step: OnStep, *, encodings: Encodings
) -> torch.Tensor:
    """Return the clip's latents, (1, channels, frames, h, w)."""
    asked = request.parameters
    prompt = _encode_text(model, encodings, asked.prompt)
    unguided = None
    if asked.guidance_scale > 1:
        unguided = _encode_text(model, encodings, asked.negative_prompt)
    keyframes = keyframes_of(request)
    seen = [_encode_picture(model, encodings, each) for each in keyframes.values()]
    on_step(Step(1, 1, Stage.ENCODING_INPUTS))
    arguments = {
        "prompt_embeds": prompt,
        "negative_prompt_embeds": unguided,
        "conditioning_frames": torch.stack(seen, dim=1)[None],
        "controlnet_frame_indices": list(keyframes),
        "width": asked.width,
        "height": asked.height,
        "num_frames": asked.num_frames,
        "guidance_scale": asked.guidance_scale,
        "generator": seeded(asked.seed),
    }
    latent_map = fit(seen[0], keyframes[0])
    return latents_of(
        model.pipeline,
        arguments,
        on_step,
        steps=asked.num_inference_steps,
        device=model.device,
        previews=Previews(latent_map, steps=asked.num_inference_steps, one_frame=middle_of_times),
    )


def keyframes_of(request: RenderRequest) -> dict[int, Image]:
    """Return the given images by the numbers of their frames, each in the clip's size."""
    asked = request.parameters
    given = {0: request.image, **request.keyframes}
    if request.last_frame is not None:
        given[asked.num_frames - 1] = request.last_frame
    return {
        number: frame_image(given[number], width=asked.width, height=asked.height, fit=asked.fit)
        for number in sorted(given)
    }


def _encode_text(model: Model, kept: Encodings, text: str) -> torch.Tensor:
    """Return (1, 77, width), on the device."""

    @torch.no_grad()
    def encode() -> torch.Tensor:
        tokens = model.pipeline.tokenizer(
            text, padding="max_length", truncation=True, return_tensors="pt"
        )
        found: torch.Tensor = model.pipeline.text_encoder(tokens.input_ids.to(model.device))[0]
        return found

    return kept.of_text(text, encode)


def _encode_picture(model: Model, kept: Encodings, frame: Image) -> torch.Tensor:
    """Return (channels, h, w): the mean of the VAE's distribution for a frame, where others draw a
    sample."""

    @torch.no_grad()
    def encode() -> torch.Tensor:
        pixels = torch.tensor(frame).permute(2, 0, 1)[None].to(model.device)
        levels = (pixels.float() / 255 * 2 - 1).to(model.vae.dtype)
        seen = model.vae.encode(levels).latent_dist.mode()[0]
        scaled: torch.Tensor = seen * model.vae.config.scaling_factor
        return scaled

    return kept.of_picture(frame, encode)


@torch.no_grad()
def _decode(model: Model, latents: torch.Tensor) -> torch.Tensor:
    """Return pixels (n, 3, height, width), -1 to 1, of latents (n, channels, h, w)."""
    pixels: torch.Tensor = model.vae.decode(latents / model.vae.config.scaling_factor).sample
    return pixels
