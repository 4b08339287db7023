"""The port every engine fills: one model, loaded once, rendering one request at a time."""

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
"""What a render will do, in words a client can read: kept in the job's metrics."""


class Checkpoint(Protocol):
    """Small notes of one job that its next attempt is given: where something is, not what."""

    def read(self, name: str) -> Mapping[str, Any] | None:
        """Return what was noted last under this name, by whichever attempt."""

    def write(self, name: str, value: Mapping[str, Any], *, is_open: bool = False) -> None:
        """Note it; returns when it is kept.

        Args:
            is_open: something goes on outside which a cancel of the job has to end.

        Raises:
            LeaseLost: the job is another attempt's, or has ended.
            DatabaseUnavailable: nobody knows whether it is kept.
        """


class Unkept:
    """Notes that nobody keeps beyond the request."""

    def __init__(self) -> None:
        self._notes: dict[str, Mapping[str, Any]] = {}

    def read(self, name: str) -> Mapping[str, Any] | None:
        return self._notes.get(name)

    def write(self, name: str, value: Mapping[str, Any], *, is_open: bool = False) -> None:
        self._notes[name] = dict(value)


class Notes:
    """What an engine learns while it renders: kept beside the plan, and in the job's warnings."""

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
    """A picture, what else was given, and the settled parameters of its clip.

    `image` is the normalised upload in its own size; the engine fits it to the clip's
    (`worker.engines.framing`). `keyframes` are what the frames of these numbers are to show,
    `last_frame` what the last is to: only an engine whose spec honours them is given any.
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
    """Work the device has finished: `index` of `total`, counted from 1 within its stage."""

    index: int
    total: int
    stage: Stage = Stage.DENOISING
    preview: Image | None = None


class OnStep(Protocol):
    def __call__(self, step: Step) -> None:
        """Report a step; may raise LeaseLost or Drained, which the engine lets through."""


class OnProgress(Protocol):
    def __call__(self, fraction: float, what: str) -> None:
        """Report how far a load is, 0 to 1; may raise, like OnStep."""


class VideoEngine(Protocol):
    """One model, loaded once, rendering one request at a time."""

    spec: EngineSpec

    def load(self, device: str, on_progress: OnProgress) -> None:
        """Bring the model to `device` ("cpu" or "cuda:0"); a second call does nothing.

        Raises:
            MissingWeights: the weights are not there or not safetensors.
            OutOfMemory: the card is too small for the model.
        """

    def plan(self, request: RenderRequest) -> Plan:
        """Return how this request will be rendered; quick, no device work."""

    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        """Yield uint8 RGB chunks of shape (n, height, width, 3), in order.

        `on_step` is called for steps the device has finished (at most two are in flight), and
        may raise to stop the render. The chunks sum to exactly `num_frames`.

        Raises:
            OutOfMemory: the clip does not fit; the message names a smaller one.
            NonFiniteFrames: the model produced NaN or infinity.
            DevicePoisoned: the device is unusable until the process restarts.
        """

    def unload(self) -> None:
        """Free the device's memory; `load` may follow."""


@runtime_checkable
class Warms(Protocol):
    """An engine that prepares beyond its load, for what is asked of it most."""

    def warm(self, on_progress: OnProgress) -> None:
        """Compile or tune; called after `load` and before the first render, again after a stop.

        Takes minutes for each call of `on_progress`, which may raise. What cannot be prepared
        must render without.
        """
