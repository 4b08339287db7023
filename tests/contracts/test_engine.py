"""The rules for every engine, whatever its model; a new engine is a line in SUBJECTS.

The checks are plain functions, because the second half runs each of them on an engine that breaks
it.
"""

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from shared.engines.parameters import RenderParameters, RequestedParameters, resolve_parameters
from shared.engines.spec import EngineSpec, Fit
from shared.errors import LeaseLost
from shared.settings import Settings
from tests.support import faulty_engines, photos
from worker.engines.base import Frames, RenderRequest, Step, VideoEngine
from worker.engines.camera.engine import CameraEngine
from worker.engines.remote.engine import RemoteEngine
from worker.engines.remote.patience import Patience
from worker.render.lease import TOLD

pytestmark = pytest.mark.long


@dataclass(frozen=True)
class Subject:
    """An engine under test and the requests that it can render quickly.

    `build` gets an empty folder for a checkpoint; the folder stays until the engine is gone.
    `cases` are (width, height, num_frames).
    """

    name: str
    build: Callable[[Path], VideoEngine]
    cases: tuple[tuple[int, int, int], ...]
    prompt: str = "slowly push in, handheld"
    steps: int = 2


def settings() -> Settings:
    return Settings(_env_file=None)


def small(family: str) -> Callable[[Path], VideoEngine]:
    def build(folder: Path) -> VideoEngine:
        # This import is here because torch takes seconds, and the camera's checks do not need it.
        from tests.support.small_models import FAMILIES

        return FAMILIES[family].engine(FAMILIES[family].build(folder))

    return build


def small_svd(folder: Path) -> VideoEngine:
    from tests.support import checkpoints  # noqa: F401  # One thread for torch.
    from worker.engines.svd.engine import SvdXtEngine
    from worker.engines.svd.tiny import tiny_svd

    return SvdXtEngine(Settings(model_dir=tiny_svd(folder), _env_file=None))


def forwarding(folder: Path) -> VideoEngine:
    from tests.support.video_server import VideoServer
    from worker.engines import build, chosen

    engine = build(chosen(VideoServer().entry(), has_gpu=False)["wan-fast"], settings())
    assert isinstance(engine, RemoteEngine)
    engine.patience = Patience(first_look=0.01, longest_look=0.02)
    return engine


def small_folder(folder: Path) -> VideoEngine:
    from tests.support.small_diffusers import served, small_ltx

    return served(small_ltx(folder))


CAMERA: Final = Subject(
    "camera",
    lambda folder: CameraEngine(settings()),
    cases=((96, 64, 8), (64, 96, 9), (130, 66, 32), (512, 288, 16)),
)

SUBJECTS: Final = (
    Subject(
        "animatediff",
        small("animatediff"),
        cases=((128, 64, 8), (64, 128, 9), (64, 64, 32)),
        prompt="the steam rises",
    ),
    CAMERA,
    Subject(
        "i2vgen-xl",
        small("i2vgen-xl"),
        cases=((128, 64, 8), (64, 128, 9), (192, 128, 32)),
        prompt="the steam rises",
    ),
    Subject(
        "diffusers",
        small_folder,
        cases=((128, 64, 5), (64, 128, 9), (96, 64, 18)),
        prompt="the steam rises",
    ),
    Subject("svd-xt", small_svd, cases=((128, 64, 8), (64, 128, 9), (64, 64, 14))),
    Subject(
        "wan",
        small("wan"),
        cases=((128, 64, 5), (64, 128, 9), (96, 64, 10)),
        prompt="the steam rises",
    ),
    Subject("openai-videos", forwarding, cases=((96, 64, 8), (64, 96, 9)), prompt="steam"),
)


@dataclass(frozen=True)
class Bench:
    """A loaded engine and requests that it can answer."""

    engine: VideoEngine
    subject: Subject

    def request(self, case: int = 0) -> RenderRequest:
        width, height, num_frames = self.subject.cases[case]
        return RenderRequest(
            image=photos.coffee(),
            parameters=RenderParameters(
                prompt=self.subject.prompt,
                negative_prompt="",
                resolution=None,
                width=width,
                height=height,
                fit=Fit.CROP,
                num_frames=num_frames,
                fps=8,
                num_inference_steps=self.subject.steps,
                guidance_scale=3.0,
                seed=7,
            ),
        )

    def frames(self, request: RenderRequest) -> Frames:
        return np.concatenate(list(self.engine.render(request, ignore)))


def ignore(step: Step) -> None:
    pass


def ignore_progress(fraction: float, what: str) -> None:
    pass


def check_the_spec_survives_json(bench: Bench) -> None:
    spec = bench.engine.spec
    assert EngineSpec.model_validate_json(spec.model_dump_json()) == spec


def check_the_spec_says_what_people_need_to_know(bench: Bench) -> None:
    spec = bench.engine.spec
    assert all((spec.name, spec.title, spec.description, spec.revision))
    assert spec.licence.name.strip()
    assert spec.licence.url is None or spec.licence.url.startswith("https://")
    assert spec.licence.commercial_use != "conditions" or spec.licence.note


def check_defaults_and_presets_lie_within_the_limits(bench: Bench) -> None:
    spec = bench.engine.spec
    settled = partial(resolve_parameters, spec, image_width=1024, image_height=768, seed=1)
    for values in (spec.defaults, *spec.presets):
        chosen = values.model_dump(exclude={"name"}, exclude_none=True)
        try:
            parameters = settled(RequestedParameters(prompt="a cat", **chosen))
        except Exception as error:
            raise AssertionError(f"{values!r} is refused: {error}") from error
        assert parameters.width % spec.multiple == 0
        assert parameters.height % spec.multiple == 0


def check_frames_come_in_the_number_and_shape_asked_for(bench: Bench) -> None:
    for case, (width, height, num_frames) in enumerate(bench.subject.cases):
        chunks = list(bench.engine.render(bench.request(case), ignore))
        assert all(chunk.dtype == np.uint8 for chunk in chunks)
        assert all(chunk.shape[1:] == (height, width, 3) for chunk in chunks)
        assert all(len(chunk) > 0 and chunk.flags.c_contiguous for chunk in chunks)
        assert sum(len(chunk) for chunk in chunks) == num_frames


def check_a_chunk_stays_as_it_was_yielded(bench: Bench) -> None:
    kept: list[tuple[Frames, Frames]] = []
    for chunk in bench.engine.render(bench.request(), ignore):
        kept.append((chunk, chunk.copy()))
    assert all(np.array_equal(chunk, copy) for chunk, copy in kept)


def check_the_same_seed_gives_the_same_frames(bench: Bench) -> None:
    assert np.array_equal(bench.frames(bench.request()), bench.frames(bench.request()))


def check_steps_count_up_to_their_total(bench: Bench) -> None:
    steps: list[Step] = []

    def keep(step: Step) -> None:
        steps.append(step)

    list(bench.engine.render(bench.request(), keep))
    assert steps
    for stage in {step.stage for step in steps}:
        own = [step for step in steps if step.stage is stage]
        indexes = [step.index for step in own]
        assert len({step.total for step in own}) == 1
        # A remote server may report nothing new for long. The engine then reports the last step
        # again, as a sign of life.
        assert indexes == sorted(indexes if stage in TOLD else set(indexes))
        assert indexes[0] >= 1
        assert indexes[-1] == own[0].total


def check_a_lost_lease_stops_the_render(bench: Bench) -> None:
    calls: list[Step] = []
    lost = LeaseLost("a newer attempt took the job")

    def lose(step: Step) -> None:
        calls.append(step)
        raise lost

    frames = bench.engine.render(bench.request(), lose)
    caught: LeaseLost | None = None
    try:
        for _ in frames:
            assert not calls, "a chunk came after the stop"
    except LeaseLost as error:
        caught = error
    assert caught is lost
    assert len(calls) == 1
    assert list(frames) == []
    assert len(bench.frames(bench.request())) == bench.subject.cases[0][2]


def check_a_second_load_does_nothing(bench: Bench) -> None:
    before = bench.frames(bench.request())
    fractions: list[float] = []
    bench.engine.load("cpu", lambda fraction, what: fractions.append(fraction))
    assert fractions == []
    assert np.array_equal(bench.frames(bench.request()), before)


def check_an_unloaded_engine_loads_again(bench: Bench) -> None:
    before = bench.frames(bench.request())
    fractions: list[float] = []
    bench.engine.unload()
    bench.engine.load("cpu", lambda fraction, what: fractions.append(fraction))
    assert fractions == sorted(fractions)
    assert all(0 <= fraction <= 1 for fraction in fractions)
    assert np.array_equal(bench.frames(bench.request()), before)


def check_the_plan_is_quick_and_plain(bench: Bench) -> None:
    request = bench.request(-1)
    seconds = math.inf
    for _ in range(5):
        began = time.perf_counter()
        plan = bench.engine.plan(request)
        seconds = min(seconds, time.perf_counter() - began)
    assert seconds < 0.05
    try:
        assert json.loads(json.dumps(plan)).keys() == plan.keys()
    except TypeError as error:
        raise AssertionError("the plan does not fit into JSON") from error
    assert bench.engine.plan(request) == plan


def check_the_image_is_left_as_it_was(bench: Bench) -> None:
    request = bench.request()
    before = request.image.copy()
    bench.frames(request)
    assert np.array_equal(request.image, before)


def check_no_file_is_left_behind(bench: Bench) -> None:
    kept = tempfile.tempdir
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        tempfile.tempdir = folder
        try:
            bench.frames(bench.request())
        finally:
            tempfile.tempdir = kept
        assert list(Path(folder).iterdir()) == []


CHECKS: Final = tuple(
    value for name, value in list(globals().items()) if name.startswith("check_")
)


BRIEF: Final = (CAMERA.name, "i2vgen-xl", "openai-videos")
"""Each run does every check on these engines; `make test-all` does the rest for the others."""

RENDERED_AGAIN: Final = (
    check_a_chunk_stays_as_it_was_yielded,
    check_the_same_seed_gives_the_same_frames,
    check_a_second_load_does_nothing,
    check_an_unloaded_engine_loads_again,
    check_the_image_is_left_as_it_was,
    check_no_file_is_left_behind,
)
"""Each of these renders again: an engine of diffusers takes up to two seconds of a core."""

HELD: Final = [
    pytest.param(
        subject,
        check,
        id=f"{subject.name}-{check.__name__}",
        marks=[pytest.mark.extended]
        if check in RENDERED_AGAIN and subject.name not in BRIEF
        else [],
    )
    for subject in SUBJECTS
    for check in CHECKS
]


@pytest.fixture(scope="module")
def bench_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Subject], Bench]]:
    """Load each engine once, whatever the order of the tests."""
    with ExitStack() as loaded:

        @cache
        def bench(subject: Subject) -> Bench:
            engine = subject.build(tmp_path_factory.mktemp(subject.name))
            engine.load("cpu", ignore_progress)
            loaded.callback(engine.unload)
            return Bench(engine, subject)

        yield bench


@pytest.mark.parametrize(("subject", "check"), HELD)
def test_an_engine_keeps_the_contract(
    bench_of: Callable[[Subject], Bench], subject: Subject, check: Callable[[Bench], None]
) -> None:
    check(bench_of(subject))


FAULTS: Final = (
    (faulty_engines.DropsAFrame, check_frames_come_in_the_number_and_shape_asked_for),
    (faulty_engines.CropsTheFrame, check_frames_come_in_the_number_and_shape_asked_for),
    (faulty_engines.YieldsViews, check_frames_come_in_the_number_and_shape_asked_for),
    (faulty_engines.YieldsFloats, check_frames_come_in_the_number_and_shape_asked_for),
    (faulty_engines.YieldsNothingFirst, check_frames_come_in_the_number_and_shape_asked_for),
    (faulty_engines.ReusesItsBuffer, check_a_chunk_stays_as_it_was_yielded),
    (faulty_engines.ForgetsTheSeed, check_the_same_seed_gives_the_same_frames),
    (faulty_engines.CountsFromZero, check_steps_count_up_to_their_total),
    (faulty_engines.CountsOneStepTwice, check_steps_count_up_to_their_total),
    (faulty_engines.TellsNoSteps, check_steps_count_up_to_their_total),
    (faulty_engines.IgnoresTheStop, check_a_lost_lease_stops_the_render),
    (faulty_engines.EndsQuietly, check_a_lost_lease_stops_the_render),
    (faulty_engines.TellsNoSteps, check_a_lost_lease_stops_the_render),
    (faulty_engines.LoadsTwice, check_a_second_load_does_nothing),
    (faulty_engines.CannotComeBack, check_an_unloaded_engine_loads_again),
    (faulty_engines.PlansByRendering, check_the_plan_is_quick_and_plain),
    (faulty_engines.PlansInBytes, check_the_plan_is_quick_and_plain),
    (faulty_engines.PaintsOnTheImage, check_the_image_is_left_as_it_was),
    (faulty_engines.LeavesATemporaryFile, check_no_file_is_left_behind),
    (faulty_engines.LeavesAFileHere, check_no_file_is_left_behind),
    (faulty_engines.KeepsASecret, check_the_spec_survives_json),
    (faulty_engines.HasNoLicence, check_the_spec_says_what_people_need_to_know),
    (faulty_engines.DefaultsTooFar, check_defaults_and_presets_lie_within_the_limits),
    (faulty_engines.PresetTooFar, check_defaults_and_presets_lie_within_the_limits),
)


@pytest.mark.parametrize(
    ("fault", "check"), FAULTS, ids=[f"{f.__name__}-{c.__name__}" for f, c in FAULTS]
)
def test_an_engine_that_breaks_the_contract_is_caught(
    fault: type[CameraEngine], check: Callable[[Bench], None]
) -> None:
    with pytest.raises(AssertionError):
        check(Bench(fault(settings()), CAMERA))


def test_every_check_has_an_engine_that_breaks_it() -> None:
    assert {check for _, check in FAULTS} == set(CHECKS)
