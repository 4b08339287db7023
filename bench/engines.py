"""Measures engines over diffusers' pipelines beside the stock pipelines, in one process."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import torch
from diffusers.utils import export_to_video

from bench.arms import Clock, Figures, Marks, interleaved, relative_error
from bench.budget import Budget, attempt, say
from bench.case import engine_request
from bench.gauges import Peak, synchronize
from bench.subjects import Subject, draw_svd, draw_wan
from worker.engines.base import RenderRequest, Step
from worker.engines.diffusion.faults import release
from worker.engines.diffusion.preview import LatentMap
from worker.video.metadata import Tags
from worker.video.writer import Mp4Writer

T = TypeVar("T")

STOCK: Final = "diffusers"
OURS: Final = "stillreel"
PREVIEWS_TIMED: Final = 20


@dataclass(frozen=True)
class EngineCase:
    """A clip of one engine, and the function that draws its model; sizes are in pixels."""

    engine: str
    draw: Callable[..., Subject]
    width: int
    height: int
    frames: int
    steps: int
    guidance_scale: float

    def __str__(self) -> str:
        size = f"{self.width} x {self.height}"
        return f"{self.engine}, {size}, {self.frames} frames, {self.steps} steps"

    def request(self, number: int) -> RenderRequest:
        return engine_request(
            number,
            width=self.width,
            height=self.height,
            frames=self.frames,
            steps=self.steps,
            guidance_scale=self.guidance_scale,
        )


CASES: Final[Mapping[str, tuple[EngineCase, ...]]] = {
    "cpu": (
        EngineCase("wan", draw_wan, 128, 64, 9, 4, 5.0),
        EngineCase("svd", draw_svd, 64, 64, 8, 4, 3.0),
    ),
    # As many steps as fit into nine minutes; a step of a clip of 50 steps takes the same time.
    "cuda": (
        EngineCase("wan", draw_wan, 896, 512, 49, 20, 5.0),
        EngineCase("svd", draw_svd, 896, 512, 14, 25, 3.0),
    ),
}


@dataclass(frozen=True)
class EngineRow:
    """The medians of one pipeline; a ratio is of two neighbours in one round."""

    name: str
    step_ms: float
    faster_steps: float
    clip_seconds: float
    faster_clips: float
    error: float
    peak_bytes: int
    clips: int


@dataclass(frozen=True)
class PreviewCost:
    """The costs of a clip's previews: of the map once, and of each image."""

    fit_ms: float
    image_ms: float


@dataclass
class EngineReport:
    """The results for one engine so far."""

    title: str
    rows: list[EngineRow] = field(default_factory=list)
    previews: PreviewCost | None = None
    missing: list[str] = field(default_factory=list)


class MeasuredEngine:
    """Measures one engine, and calls `on_found` after each row."""

    def __init__(
        self,
        case: EngineCase,
        *,
        device: torch.device,
        folder: Path,
        clock: Clock,
        budget: Budget,
        on_found: Callable[[], None],
    ) -> None:
        self.report = EngineReport(str(case))
        self._case = case
        self._device = device
        self._path = folder / "engine.mp4"
        self._clock = clock
        self._budget = budget
        self._on_found = on_found
        self._peaks: dict[str, int] = {}
        self._error = 0.0

    def measure(self, rounds: int) -> None:
        """Draw the model and let both pipelines render in turns; the first clip is a warm-up."""
        subject = self._attempt("the model", self._drawn)
        if subject is None:
            return
        arms = {STOCK: self._by_stock, OURS: self._by_ours}
        firsts = {}
        for name, arm in arms.items():
            say(f"{self._case}: first clip of {name}")
            found = self._attempt(name, partial(self._first, name, arm, subject))
            if found is None:
                return
            firsts[name] = [found]
            self._note(firsts)
        self._error = self._attempt("the latents", lambda: self._strayed(subject)) or 0.0
        self._note(firsts)
        self.report.previews = self._attempt(
            "previews",
            lambda: preview_cost(
                lambda: subject.latent_map(self._case.request(0)), self._device, self._clock
            ),
        )
        self._on_found()

        def run(name: str, request: RenderRequest) -> Figures | None:
            return self._attempt(name, lambda: arms[name](subject, request))

        requests = [self._case.request(1 + number) for number in range(rounds)]
        for number, figures in enumerate(interleaved(list(arms), self._in_time(requests), run)):
            if len(figures) < len(arms):
                return
            self._note(figures)
            say(f"{self._case}: round {number + 1} of {rounds}")

    def _drawn(self) -> Subject:
        say(f"{self._case}: drawing a model")
        return self._case.draw(self._device, is_full=self._device.type == "cuda")

    def _in_time(self, requests: list[RenderRequest]) -> Iterator[RenderRequest]:
        longest = 0.0
        for number, request in enumerate(requests):
            if not self._budget.has(longest):
                self._miss(f"{number} rounds of {len(requests)}: the time was over")
                return
            began = time.monotonic()
            yield request
            longest = max(longest, time.monotonic() - began)

    def _first(
        self, name: str, arm: Callable[[Subject, RenderRequest], Figures], subject: Subject
    ) -> Figures:
        with Peak(self._device) as peak:
            figures = arm(subject, self._case.request(0))
        self._peaks[name] = peak.bytes
        return figures

    def _by_stock(self, subject: Subject, request: RenderRequest) -> Figures:
        marks = Marks(request.parameters.num_inference_steps, self._clock)
        synchronize(self._device)
        began = self._clock()
        frames = subject.by_stock(request, lambda: marks.step_done(self._device), "pil")[0]
        export_to_video(frames, str(self._path), fps=request.parameters.fps)
        return Figures(marks.milliseconds_each, self._clock() - began)

    def _by_ours(self, subject: Subject, request: RenderRequest) -> Figures:
        asked = request.parameters
        marks = Marks(asked.num_inference_steps, self._clock)

        def on_step(step: Step) -> None:
            if step.stage == "denoising":
                marks.step_done()

        synchronize(self._device)
        began = self._clock()
        size = {"width": asked.width, "height": asked.height, "fps": asked.fps}
        with Mp4Writer(self._path, **size, tags=Tags(settings={})) as writer:
            for frames in subject.by_ours(request, on_step):
                writer.write(frames)
        return Figures(marks.milliseconds_each, self._clock() - began)

    def _strayed(self, subject: Subject) -> float:
        request = self._case.request(0)
        theirs = subject.by_stock(request, lambda: None, "latent")
        return relative_error(subject.latents(request), theirs)

    def _note(self, figures: Mapping[str, list[Figures]]) -> None:
        theirs = figures[STOCK]
        self.report.rows[:] = [
            EngineRow(
                name=name,
                step_ms=statistics.median(each.step_ms for each in mine),
                faster_steps=_ratio(theirs, mine, "step_ms"),
                clip_seconds=statistics.median(each.seconds for each in mine),
                faster_clips=_ratio(theirs, mine, "seconds"),
                error=self._error if name == OURS else 0.0,
                peak_bytes=self._peaks[name],
                clips=len(mine),
            )
            for name, mine in figures.items()
        ]
        self._on_found()

    def _attempt(self, what: str, work: Callable[[], T]) -> T | None:
        if not self._budget.has(0):
            self._miss(f"{what}: left out, the time was over")
            return None
        found = attempt(what, work, seconds=self._budget.next_seconds, on_lost=self._miss)
        if found is None:
            release(self._device)
        return found

    def _miss(self, why: str) -> None:
        self.report.missing.append(why)
        self._on_found()


def preview_cost(make: Callable[[], LatentMap], device: torch.device, clock: Clock) -> PreviewCost:
    """Return the costs of previews, with a wait for the device that they do not need."""
    # The first preview is not counted, because libraries load at their first use.
    latent_map = make()
    synchronize(device)
    began = clock()
    latent_map = make()
    synchronize(device)
    fitted = clock()
    latents = latent_map.mean + latent_map.spread * torch.randn((1, 64, 64), device=device)
    latent_map.image(latents, done=0.5)
    synchronize(device)
    started = clock()
    for _ in range(PREVIEWS_TIMED):
        latent_map.image(latents, done=0.5).cpu()
    synchronize(device)
    return PreviewCost(1000 * (fitted - began), 1000 * (clock() - started) / PREVIEWS_TIMED)


def _ratio(theirs: list[Figures], mine: list[Figures], what: str) -> float:
    # The first row has only the warm-up clips; later rows leave these out.
    pairs = zip(theirs, mine, strict=False)
    return statistics.median(getattr(a, what) / getattr(b, what) for a, b in pairs)
