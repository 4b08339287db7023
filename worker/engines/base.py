"""The port of every engine: one model, loaded once, renders one request at a time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from shared.engines.parameters import RenderParameters
from shared.engines.spec import EngineSpec
from shared.lifecycle import Stage

Image = npt.NDArray[np.uint8]
"""RGB, shape (height, width, 3)."""

Frames = npt.NDArray[np.uint8]
"""RGB, shape (frames, height, width, 3)."""

Plan = Mapping[str, str | int | float | bool | tuple[str, ...]]
"""How a render will be done, in values that a client can read: kept in the job's metrics."""


class Checkpoint(Protocol):
    """Small notes on a job for its next attempt: where something is, not the thing itself."""

    def read(self, name: str) -> Mapping[str, Any] | None:
        """Return the last note under this name, of any attempt."""

    def write(self, name: str, value: Mapping[str, Any], *, is_open: bool = False) -> None:
        """Write a note; it returns when the note is stored.

        Args:
            is_open: something runs on another server that a cancel of the job must end.

        Raises:
            LeaseLost: another attempt has the job, or it has ended.
            DatabaseUnavailable: it is not known whether the note is stored.
        """


class Unkept:
    """Notes that are not stored beyond the request."""

    def __init__(self) -> None:
        self._notes: dict[str, Mapping[str, Any]] = {}

    def read(self, name: str) -> Mapping[str, Any] | None:
        return self._notes.get(name)

    def write(self, name: str, value: Mapping[str, Any], *, is_open: bool = False) -> None:
        self._notes[name] = dict(value)


class Notes:
    """What an engine learns while it renders: kept in the plan, and in the job's warnings."""

    def __init__(self) -> None:
        self.facts: dict[str, str | int | float | bool | tuple[str, ...]] = {}
        self.warnings: list[str] = []

    def fact(self, name: str, value: str | int | float | bool) -> None:
        self.facts[name] = value

    def warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)


@dataclass(frozen=True)
class RenderRequest:
    """An image, further inputs, and the resolved parameters of the clip.

    `image` is the normalised upload in its own size; the engine fits it to the clip's size
    (`worker.engines.framing`). `keyframes` are images by the numbers of their frames, and
    `last_frame` is the image of the last frame; only an engine whose spec honours them gets any.
    `job` is the job's public id.
    """

    image: Image
    parameters: RenderParameters
    last_frame: Image | None = None
    keyframes: Mapping[int, Image] = field(default_factory=dict)
    job: str = ""
    checkpoint: Checkpoint = field(default_factory=Unkept)
    notes: Notes = field(default_factory=Notes)


@dataclass(frozen=True)
class Step:
    """Work that the device has finished: `index` of `total`, counted from 1 within its stage."""

    index: int
    total: int
    stage: Stage = Stage.DENOISING
    preview: Image | None = None


class OnStep(Protocol):
    def __call__(self, step: Step) -> None:
        """Report a step; it may raise LeaseLost or Drained, which the engine must not catch."""


class OnProgress(Protocol):
    def __call__(self, fraction: float, what: str) -> None:
        """Report the progress of a load, 0 to 1; it may raise, like OnStep."""


class VideoEngine(Protocol):
    """One model, loaded once, that renders one request at a time."""

    spec: EngineSpec

    def load(self, device: str, on_progress: OnProgress) -> None:
        """Load the model to `device` ("cpu" or "cuda:0"); a second call does nothing.

        Raises:
            MissingWeights: the weights do not exist or are not safetensors.
            OutOfMemory: the card is too small for the model.
        """

    def plan(self, request: RenderRequest) -> Plan:
        """Return how this request will be rendered; quick, without device work."""

    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        """Yield uint8 RGB chunks of shape (n, height, width, 3), in order.

        It calls `on_step` for steps that the device has finished (at most two are in flight);
        `on_step` may raise to stop the render. The chunks have exactly `num_frames` frames in all.

        Raises:
            OutOfMemory: the clip does not fit; the message names a smaller one.
            NonFiniteFrames: the model produced NaN or infinity.
            DevicePoisoned: the device is unusable until the process restarts.
        """

    def unload(self) -> None:
        """Free the device's memory; `load` may be called again."""


@runtime_checkable
class Warms(Protocol):
    """An engine that prepares for the most frequent clips after its load."""

    def warm(self, on_progress: OnProgress) -> None:
        """Compile or tune; called after `load`, before the first render, and again after a stop.

        Each call of `on_progress`, which may raise, can take minutes. A clip that cannot be
        prepared must still render.
        """
