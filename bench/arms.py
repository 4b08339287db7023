"""Renders one clip by one arm, from the image to the MP4 on disk, and times its steps."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers.utils import export_to_video

from bench.gauges import synchronize
from tests.support.stock import GivenSample
from worker.engines.base import RenderRequest, Step
from worker.engines.i2vgen.compiled import Compiled, Compiler, WarmShape
from worker.engines.i2vgen.conditions import Conditions, Noise
from worker.engines.i2vgen.cuda_graph import Recorder
from worker.engines.i2vgen.ddim import ddim_steps
from worker.engines.i2vgen.denoise import Guidance, denoise
from worker.engines.i2vgen.denoiser import Denoiser
from worker.engines.i2vgen.memory import NORMAL, MemoryUse, Room
from worker.engines.i2vgen.pipeline import clip_noise, encode, render_clip
from worker.engines.i2vgen.weights import Model
from worker.video.metadata import Tags
from worker.video.writer import Mp4Writer

Clock = Callable[[], float]


@dataclass
class Marks:
    """The times at which the device finished its first and its last step."""

    total: int
    clock: Clock
    seconds: list[float] = field(default_factory=list)
    count: int = 0

    def step_done(self, device: torch.device | None = None) -> None:
        """Note a step; wait first for a `device` that may not have finished it."""
        self.count += 1
        if self.count in {1, self.total}:
            if device is not None:
                synchronize(device)
            self.seconds.append(self.clock())

    @property
    def milliseconds_each(self) -> float:
        first, last = self.seconds
        return (last - first) / (self.total - 1) * 1000


@dataclass(frozen=True)
class Figures:
    """What one run took; `latents` are its denoised latents, if the arm gives them."""

    step_ms: float
    seconds: float
    latents: torch.Tensor | None = None


class Arm(Protocol):
    model: Model

    def warm(self) -> None:
        """Compile, if the arm is a compiled one."""

    def run(self, request: RenderRequest, path: Path, clock: Clock) -> Figures:
        """Render the request into an MP4 at `path`."""


class Marked:
    """Wraps a scheduler, marks its steps, and keeps its last sample."""

    def __init__(self, scheduler: Any, marks: Marks, device: torch.device) -> None:
        self._scheduler = scheduler
        self._device = device
        self._marks = marks
        self.sample = torch.empty(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)

    def step(self, *given: Any, **options: Any) -> Any:
        output = self._scheduler.step(*given, **options)
        self.sample = output.prev_sample
        self._marks.step_done(self._device)
        return output


class StockArm:
    """Diffusers' pipeline, which also writes the file."""

    def __init__(self, pipeline: GivenSample, model: Model) -> None:
        self._pipeline = pipeline
        self.model = model  # The noise and the image's latents are drawn before the clock starts.

    def warm(self) -> None:
        """Its code is compiled in the first run."""

    def run(self, request: RenderRequest, path: Path, clock: Clock) -> Figures:
        noise, conditions = drawn(self.model, request)
        pipeline, scheduler = self._pipeline, self._pipeline.scheduler
        marks = Marks(request.parameters.num_inference_steps, clock)
        pipeline.scheduler = marked = Marked(scheduler, marks, self.model.device)
        synchronize(self.model.device)
        began = clock()
        try:
            frames = pipeline.render(request, noise, conditions.latents)[0]
        finally:
            pipeline.scheduler = scheduler
        export_to_video(frames, str(path), fps=request.parameters.fps)
        seconds = clock() - began
        return Figures(marks.milliseconds_each, seconds, marked.sample[None].transpose(1, 2))


class OurArm:
    """Runs what a worker runs between its claim and its upload."""

    def __init__(
        self, model: Model, memory: MemoryUse = NORMAL, warm: "Warm | None" = None
    ) -> None:
        self.model = model
        self._memory = memory
        self._warm = warm

    def warm(self) -> None:
        if self._warm is not None:
            self._warm.compile()

    def run(self, request: RenderRequest, path: Path, clock: Clock) -> Figures:
        parameters = request.parameters
        marks = Marks(parameters.num_inference_steps, clock)
        compiled = self._warm.compiled if self._warm else None

        def on_step(step: Step) -> None:
            if step.stage == "denoising":
                marks.step_done()

        synchronize(self.model.device)
        began = clock()
        with Mp4Writer(
            path,
            width=parameters.width,
            height=parameters.height,
            fps=parameters.fps,
            tags=Tags(settings={}),
        ) as writer:
            for frames in render_clip(
                self.model, request, on_step, memory=self._memory, compiled=compiled
            ):
                writer.write(frames)
        return Figures(marks.milliseconds_each, clock() - began)


class DenoisingArm:
    """Runs a denoiser alone; the result is latents and no file."""

    def __init__(
        self,
        model: Model,
        denoiser: Denoiser,
        memory: MemoryUse = NORMAL,
        warm: "Warm | None" = None,
    ) -> None:
        self.model = model
        self._denoiser = denoiser
        self._memory = memory
        self._warm = warm

    def warm(self) -> None:
        if self._warm is not None:
            self._warm.compile()

    def run(self, request: RenderRequest, path: Path, clock: Clock) -> Figures:
        noise, conditions = drawn(self.model, request)
        parameters = request.parameters
        steps = ddim_steps(self.model.scheduler, parameters.num_inference_steps)
        marks = Marks(len(steps), clock)
        compiled = self._warm.compiled if self._warm else None
        began = clock()
        latents = denoise(
            Guidance(self._denoiser, parameters.guidance_scale, compiled),
            self._denoiser.constants(conditions, steps),
            steps,
            noise.clip.to(self.model.device),
            lambda done: marks.step_done(),
            room=Room(self._memory, self.model.device),
        )
        return Figures(marks.milliseconds_each, clock() - began, latents)


@dataclass
class Warm:
    """The compiler of an arm, and the request that it compiles for."""

    model: Model
    shape: WarmShape
    compiler: Compiler
    record: Recorder | None = None
    compiled: Compiled | None = None

    def compile(self) -> None:
        """Compile once; a failure ends the bench, or an eager arm would count as compiled."""
        if self.compiled is None:
            self.compiled = Compiled(self.model, compiler=self.compiler, record=self.record)
            if not self.compiled.warm(self.shape, decode_frames=NORMAL.decode_frames):
                raise RuntimeError("our arm could not be compiled; the line above says why")


def drawn(model: Model, request: RenderRequest) -> tuple[Noise, Conditions]:
    noise = clip_noise(model, request.parameters)
    return noise, encode(model, request, noise, lambda step: None)


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours.float() - theirs.float()).norm() / theirs.float().norm())


def interleaved(
    names: Sequence[str],
    requests: Iterable[RenderRequest],
    run: Callable[[str, RenderRequest], Figures | None],
) -> Iterator[dict[str, list[Figures]]]:
    """Yield each arm's figures so far, round by round; every second round goes backwards.

    Args:
        run: renders by the arm of this name; None says that the arm failed, and it is dropped.
    """
    figures: dict[str, list[Figures]] = {name: [] for name in names}
    for number, request in enumerate(requests):
        for name in list(figures)[:: 1 if number % 2 == 0 else -1]:
            took = run(name, request)
            if took is None:
                del figures[name]
            else:
                figures[name].append(took)
        yield figures
