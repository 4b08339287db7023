"""One clip from its request to its frames: encode, denoise, decode."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch

from shared.engines.parameters import RenderParameters
from shared.engines.spec import Quality
from shared.lifecycle import Stage
from worker.engines.base import Frames, Image, OnStep, RenderRequest, Step
from worker.engines.diffusion.encodings import Encodings
from worker.engines.diffusion.levels import told_as_decoded
from worker.engines.diffusion.preview import Previews, fit, middle_of_times
from worker.engines.framing import framed
from worker.engines.i2vgen.compiled import Compiled, WarmShape
from worker.engines.i2vgen.conditions import (
    Conditions,
    Noise,
    draw_noise,
    encode_image,
    encode_latents,
    encode_prompts,
    with_unguided,
)
from worker.engines.i2vgen.ddim import ddim_steps
from worker.engines.i2vgen.decode import Chunk, chunks_ahead, in_order, levels, start
from worker.engines.i2vgen.denoise import Guidance, denoise
from worker.engines.i2vgen.denoiser import Denoiser
from worker.engines.i2vgen.draft import draft_steps
from worker.engines.i2vgen.memory import NORMAL, MemoryUse, Room, on_card
from worker.engines.i2vgen.steps import ClipStep
from worker.engines.i2vgen.weights import Model


def render_clip(
    model: Model,
    request: RenderRequest,
    on_step: OnStep,
    *,
    memory: MemoryUse = NORMAL,
    encodings: Encodings | None = None,
    compiled: Compiled | None = None,
) -> Iterator[Frames]:
    """Yield the clip's frames, a few at a time.

    Args:
        encodings: the encodings of earlier clips' texts and images; None keeps none.
        compiled: the code for warmed shapes; None renders all clips eagerly.

    Raises:
        NonFiniteFrames: the model produced NaN or infinity.
    """
    parameters = request.parameters
    encoders = (model.text_encoder, model.image_encoder)
    room = Room(memory, model.device, encoders, compiled)
    noise = clip_noise(model, parameters)
    frame = framed(request.image, parameters)
    conditions = encode(
        model, request, noise, on_step, room=room, encodings=encodings, frame=frame
    )
    latents = denoised(
        model,
        parameters,
        conditions,
        noise,
        on_step,
        room=room,
        compiled=compiled,
        frame=frame,
    )
    yield from _decoded(model, latents, on_step, room, compiled)


def clip_noise(model: Model, parameters: RenderParameters) -> Noise:
    return draw_noise(
        parameters.seed,
        frames=parameters.num_frames,
        height=parameters.height // model.pixels_per_latent,
        width=parameters.width // model.pixels_per_latent,
    )


def encode(
    model: Model,
    request: RenderRequest,
    noise: Noise,
    on_step: OnStep,
    *,
    room: Room | None = None,
    encodings: Encodings | None = None,
    frame: Image | None = None,
) -> Conditions:
    """Return the conditions of the clip; `frame` is the framed image, if the caller has it."""
    parameters = request.parameters
    room = room or Room(NORMAL, model.device)
    kept = Encodings(entries=3) if encodings is None else encodings
    is_guided = parameters.guidance_scale > 1
    prompts = [parameters.negative_prompt] if is_guided else []
    texts = [partial(_text, model, kept, each) for each in [*prompts, parameters.prompt]]
    text = torch.cat([room.within(each) for each in texts])
    on_step(Step(1, 3, Stage.ENCODING_INPUTS))
    embedding = room.within(partial(_image, model, kept, request.image))
    on_step(Step(2, 3, Stage.ENCODING_INPUTS))
    shown = framed(request.image, parameters) if frame is None else frame
    latents = room.within(
        lambda use: encode_latents(model, shown, noise.image, parameters.num_frames)
    )
    on_step(Step(3, 3, Stage.ENCODING_INPUTS))
    return Conditions(
        text=text,
        image=with_unguided(embedding) if is_guided else embedding,
        latents=latents,
        fps=parameters.fps,
    )


def _text(model: Model, kept: Encodings, text: str, use: MemoryUse) -> torch.Tensor:
    """Return (1, tokens, width), each text alone, so that a kept encoding equals a fresh one."""

    def fresh() -> torch.Tensor:
        with on_card(model.text_encoder, model.device, stays=use.encoders_stay):
            return encode_prompts(model, [text])

    return kept.of_text(text, fresh)


def _image(model: Model, kept: Encodings, image: Image, use: MemoryUse) -> torch.Tensor:
    def fresh() -> torch.Tensor:
        with on_card(model.image_encoder, model.device, stays=use.encoders_stay):
            return encode_image(model, image)

    return kept.of_image(image, fresh)


def denoised(
    model: Model,
    parameters: RenderParameters,
    conditions: Conditions,
    noise: Noise,
    on_step: OnStep,
    *,
    room: Room | None = None,
    compiled: Compiled | None = None,
    frame: Image | None = None,
) -> torch.Tensor:
    """Return the clip's latents, (1, 4, frames, h, w), float32 on the device.

    Args:
        frame: the framed image for previews; None for no previews.
    """
    steps_of = draft_steps if parameters.quality is Quality.DRAFT else ddim_steps
    steps: Sequence[ClipStep] = steps_of(model.scheduler, parameters.num_inference_steps)
    denoiser = Denoiser(model.unet)
    if compiled is not None:
        compiled.make_room_for(WarmShape.of(noise.clip))
    previews = None
    if frame is not None:
        latent_map = fit(conditions.latents[0, :, 0], frame)
        previews = Previews(latent_map, steps=len(steps), one_frame=middle_of_times)

    def report(done: int) -> None:
        shown = None if previews is None else previews.of(done)
        on_step(Step(done, len(steps), Stage.DENOISING, shown))

    return denoise(
        Guidance(denoiser, parameters.guidance_scale, compiled),
        denoiser.constants(conditions, steps),
        steps,
        noise.clip.to(model.device),
        report,
        room=room or Room(NORMAL, model.device),
        on_launched=None if previews is None else previews.note,
    )


def _decoded(
    model: Model, latents: torch.Tensor, on_step: OnStep, room: Room, compiled: Compiled | None
) -> Iterator[Frames]:
    run = levels if compiled is None else compiled.levels

    def begin(first: int) -> Chunk:
        return room.within(
            lambda use: start(model, latents[:, :, first : first + use.decode_frames], run)
        )

    total = latents.shape[2]
    chunks = in_order(begin, total, ahead=chunks_ahead(model.device))
    yield from told_as_decoded(chunks, total, on_step)
