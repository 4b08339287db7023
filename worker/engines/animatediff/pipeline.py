"""One clip from its request to its frames: encode, denoise, decode."""

from collections.abc import Iterator

import torch

from shared.lifecycle import Stage
from worker.engines.animatediff.footprint import DECODED_AT_ONCE
from worker.engines.animatediff.model import Model
from worker.engines.base import Frames, Image, OnStep, RenderRequest, Step
from worker.engines.diffusion.clip_loop import latents_of, seeded
from worker.engines.diffusion.levels import to_frames, told_as_decoded
from worker.engines.diffusion.preview import fit, middle_of_times
from worker.engines.framing import framed


def render_clip(model: Model, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
    """Yield the clip's frames, a few at a time, because the VAE decodes each frame alone.

    Raises:
        NonFiniteFrames: the model produced NaN or infinity.
    """
    latents = clip_latents(model, request, on_step)[0].transpose(0, 1)
    chunks = (to_frames(_decode(model, each)) for each in latents.split(DECODED_AT_ONCE))
    yield from told_as_decoded(chunks, len(latents), on_step)


def clip_latents(model: Model, request: RenderRequest, on_step: OnStep) -> torch.Tensor:
    """Return the clip's latents, (1, channels, frames, h, w)."""
    asked = request.parameters
    prompt = _encode_text(model, asked.prompt)
    unguided = None
    if asked.guidance_scale > 1:
        unguided = _encode_text(model, asked.negative_prompt)
    keyframes = keyframes_of(request)
    seen = [_encode_image(model, each) for each in keyframes.values()]
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
    return latents_of(
        model.pipeline,
        arguments,
        on_step,
        steps=asked.num_inference_steps,
        device=model.device,
        latent_map=fit(seen[0], keyframes[0]),
        one_frame=middle_of_times,
    )


def keyframes_of(request: RenderRequest) -> dict[int, Image]:
    """Return the given images by the numbers of their frames, each in the clip's size."""
    asked = request.parameters
    given = {0: request.image, **request.keyframes}
    if request.last_frame is not None:
        given[asked.num_frames - 1] = request.last_frame
    return {number: framed(given[number], asked) for number in sorted(given)}


def _encode_text(model: Model, text: str) -> torch.Tensor:
    """Return (1, 77, width), on the device."""

    @torch.no_grad()
    def encode() -> torch.Tensor:
        tokens = model.pipeline.tokenizer(
            text, padding="max_length", truncation=True, return_tensors="pt"
        )
        found: torch.Tensor = model.pipeline.text_encoder(tokens.input_ids.to(model.device))[0]
        return found

    return model.encodings.of_text(text, encode)


def _encode_image(model: Model, frame: Image) -> torch.Tensor:
    """Return (channels, h, w): the mean of a frame's VAE distribution; others draw a sample."""

    @torch.no_grad()
    def encode() -> torch.Tensor:
        pixels = torch.tensor(frame).permute(2, 0, 1)[None].to(model.device)
        levels = (pixels.float() / 255 * 2 - 1).to(model.vae.dtype)
        seen = model.vae.encode(levels).latent_dist.mode()[0]
        scaled: torch.Tensor = seen * model.vae.config.scaling_factor
        return scaled

    return model.encodings.of_image(frame, encode)


@torch.no_grad()
def _decode(model: Model, latents: torch.Tensor) -> torch.Tensor:
    """Return pixels (3, n, height, width), -1 to 1, of latents (n, channels, h, w)."""
    pixels: torch.Tensor = model.vae.decode(latents / model.vae.config.scaling_factor).sample
    return pixels.transpose(0, 1)
