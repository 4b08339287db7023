"""The denoising loop: what is constant over a clip computed once, one small step at a time."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import torch

from shared.errors import NonFiniteFrames
from worker.engines.i2vgen.conditions import Conditions
from worker.engines.i2vgen.ddim import DdimStep
from worker.engines.i2vgen.faults import NOT_FINITE, release

log = logging.getLogger(__name__)

IN_FLIGHT: Final = 2  # Enough to keep the card fed; more would make a cancel wait longer.


@dataclass(frozen=True)
class Constants:
    """What the UNet derives from the conditions, the same at every step."""

    context: torch.Tensor  # (rows * frames, tokens, width): text, latents, picture
    latents: torch.Tensor  # (frames, 4, h, w)
    times: torch.Tensor  # (steps, width): timestep and frame rate

    @property
    def rows(self) -> int:
        return int(self.context.shape[0] // self.latents.shape[0])

    def row(self, index: int) -> "Constants":
        frames = self.latents.shape[0]
        return replace(self, context=self.context[index * frames : (index + 1) * frames])


class Denoiser:
    """The UNet's forward pass in two parts: once a clip, and once a step."""

    def __init__(self, unet: Any) -> None:
        self._unet = unet

    @torch.inference_mode()
    def constants(self, conditions: Conditions, steps: Sequence[DdimStep]) -> Constants:
        latents = conditions.latents.to(self._unet.dtype)
        context = self._context(conditions.text, conditions.picture, latents[:, :, 0])
        return Constants(
            context=context.repeat_interleave(latents.shape[2], dim=0),
            latents=self._placed(latents),
            times=self._times(steps, conditions.fps),
        )

    def _context(
        self, text: torch.Tensor, picture: torch.Tensor, latents: torch.Tensor
    ) -> torch.Tensor:
        unet, rows = self._unet, text.shape[0]
        of_latents = unet.image_latents_context_embedding(latents).flatten(2).transpose(1, 2)
        of_picture = unet.context_embedding(picture).view(len(picture), -1, text.shape[2])
        return torch.cat([text, of_latents.expand(rows, -1, -1), of_picture], dim=1)

    def _placed(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the picture's latents after every pixel has attended over its frames."""
        _, channels, frames, height, width = latents.shape
        by_frame = self._unet.image_latents_proj_in(latents[0].transpose(0, 1))
        by_pixel = by_frame.permute(2, 3, 0, 1).reshape(height * width, frames, channels)
        mixed = self._unet.image_latents_temporal_encoder(by_pixel)
        return mixed.reshape(height, width, frames, channels).permute(2, 3, 0, 1)

    def _times(self, steps: Sequence[DdimStep], fps: int) -> torch.Tensor:
        unet = self._unet
        when = torch.tensor([step.timestep for step in steps], device=unet.device)
        rate = torch.tensor([fps], device=unet.device)
        of_when = unet.time_embedding(unet.time_proj(when).to(unet.dtype))
        return of_when + unet.fps_embedding(unet.time_proj(rate).to(unet.dtype))

    @torch.inference_mode()
    def predict(self, latents: torch.Tensor, constants: Constants, step: int) -> torch.Tensor:
        """Return what each row predicts, (rows, 4, frames, h, w), float32.

        Args:
            latents: (1, 4, frames, h, w), float32.
            step: its place among the steps the constants were made for, from 0.
        """
        unet, frames, rows = self._unet, latents.shape[2], constants.rows
        # One row of times serves every row and frame: each layer broadcasts it.
        time = constants.times[step : step + 1]
        joined = torch.cat([latents[0].transpose(0, 1).to(unet.dtype), constants.latents], dim=1)
        hidden = unet.transformer_in(unet.conv_in(joined), num_frames=frames, return_dict=False)[0]
        # Up to here the rows are the same, so they are computed once.
        hidden = hidden.repeat(rows, 1, 1, 1)
        hidden = self._through_blocks(hidden, time, constants.context, frames)
        hidden = unet.conv_out(unet.conv_act(unet.conv_norm_out(hidden)))
        return hidden.unflatten(0, (rows, frames)).transpose(1, 2).float()

    def _through_blocks(
        self, hidden: torch.Tensor, time: torch.Tensor, context: torch.Tensor, frames: int
    ) -> torch.Tensor:
        skips: list[torch.Tensor] = [hidden]
        for block in self._unet.down_blocks:
            hidden, outputs = block(hidden, temb=time, num_frames=frames, **_for(block, context))
            skips.extend(outputs)
        hidden = self._unet.mid_block(
            hidden, time, encoder_hidden_states=context, num_frames=frames
        )
        for block in self._unet.up_blocks:
            taken = tuple(skips[-len(block.resnets) :])
            del skips[-len(block.resnets) :]
            hidden = block(
                hidden,
                temb=time,
                res_hidden_states_tuple=taken,
                # Sides that halve to an odd number must come back as they went.
                upsample_size=skips[-1].shape[2:] if skips else None,
                num_frames=frames,
                **_for(block, context),
            )
        return hidden


class Guidance:
    """Guided predictions: both rows in one pass, or one after the other where memory is short."""

    def __init__(self, denoiser: Denoiser, scale: float) -> None:
        self.one_row_at_a_time = False
        self._denoiser = denoiser
        self._scale = scale

    def predict(self, latents: torch.Tensor, constants: Constants, step: int) -> torch.Tensor:
        """Return (1, 4, frames, h, w); after running out of memory once, by the smaller way."""
        try:
            return self._combined(self._rows(latents, constants, step))
        except torch.OutOfMemoryError as error:
            if self.one_row_at_a_time or constants.rows == 1:
                raise
            release(latents.device, error)
        self.one_row_at_a_time = True
        log.warning("guidance_split_for_memory")
        return self._combined(self._rows(latents, constants, step))

    def _rows(self, latents: torch.Tensor, constants: Constants, step: int) -> torch.Tensor:
        if not self.one_row_at_a_time:
            return self._denoiser.predict(latents, constants, step)
        each = (constants.row(row) for row in range(constants.rows))
        return torch.cat([self._denoiser.predict(latents, row, step) for row in each])

    @torch.inference_mode()
    def _combined(self, rows: torch.Tensor) -> torch.Tensor:
        if rows.shape[0] == 1:
            return rows
        unguided, guided = rows.chunk(2)
        return unguided + self._scale * (guided - unguided)


def denoise(
    guidance: Guidance,
    constants: Constants,
    steps: Sequence[DdimStep],
    noise: torch.Tensor,
    on_finished: Callable[[int], None],
) -> torch.Tensor:
    """Return the clip's latents, (1, 4, frames, h, w), float32.

    Args:
        noise: the starting latents, on the device.
        on_finished: called with 1, 2, … as the device finishes each step; may raise.

    Raises:
        NonFiniteFrames: the latents are not numbers any more.
    """
    latents = noise
    in_flight = InFlight(event_recorder(noise.device), on_finished)
    for index, step in enumerate(steps):
        prediction = guidance.predict(latents, constants, index)
        latents = advance(latents, prediction, step)
        in_flight.launched(index + 1)
    in_flight.drain()
    if not bool(torch.isfinite(latents).all()):
        raise NonFiniteFrames(NOT_FINITE)
    return latents


@torch.inference_mode()
def advance(latents: torch.Tensor, prediction: torch.Tensor, step: DdimStep) -> torch.Tensor:
    return (latents * step.keep).add_(prediction, alpha=step.follow)


class Event(Protocol):
    def synchronize(self) -> None:
        """Wait until the device has done all that came before this event."""


class InFlight:
    """Steps handed to the device and not yet finished there; each is reported once it is."""

    def __init__(
        self, record_event: Callable[[], Event] | None, on_finished: Callable[[int], None]
    ) -> None:
        self._record_event = record_event
        self._on_finished = on_finished
        self._waiting: deque[tuple[int, Event]] = deque()

    def launched(self, index: int) -> None:
        if self._record_event is None:
            self._on_finished(index)
            return
        self._waiting.append((index, self._record_event()))
        if len(self._waiting) >= IN_FLIGHT:
            self._finish_one()

    def drain(self) -> None:
        while self._waiting:
            self._finish_one()

    def _finish_one(self) -> None:
        index, event = self._waiting.popleft()
        event.synchronize()
        self._on_finished(index)


def event_recorder(device: torch.device) -> Callable[[], Event] | None:
    """Return what marks a place in the device's work; None where work is done when called."""
    if device.type == "cpu":
        return None

    def record() -> Event:
        event: Event = torch.cuda.current_stream(device).record_event()
        return event

    return record


def _for(block: Any, context: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the context for a block that attends to it, nothing for one that does not."""
    attends = getattr(block, "has_cross_attention", False)
    return {"encoder_hidden_states": context} if attends else {}
