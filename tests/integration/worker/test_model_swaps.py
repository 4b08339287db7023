"""One worker serves several models: while one is loaded, jobs without a model are rendered."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.bell import Bell
from shared.engines.parameters import RequestedParameters
from shared.engines.spec import EngineSpec
from shared.jobs.job import Job
from shared.lifecycle import Stage, Status
from tests.support.engines import HeldLoadEngine, QuickEngine
from tests.support.factory import JobFixture
from tests.support.processes import Program, crew, until
from tests.support.stack import Stack
from worker.engines.camera.engine import SPEC as CAMERA

pytestmark = pytest.mark.timeout(500)

HERE = "tests.support.engines"
SETTINGS = {
    "engines": f"quick={HERE}:QuickEngine,held={HERE}:HeldLoadEngine,camera",
    "lease_seconds": 3,
    "drain_seconds": 30,
}
PATIENCE_SECONDS = 120.0


class Desk(JobFixture):
    """A worker whose second model is loaded when a test allows it."""

    def __init__(self, stack: Stack, folder: Path, worker: Program) -> None:
        settings = stack.settings(**SETTINGS)
        self.bell = Bell(settings.redis_url.get_secret_value())
        super().__init__(settings, self.bell)
        self.worker = worker
        self._folder = folder

    def queue(self, spec: EngineSpec) -> Job:
        asked = RequestedParameters(width=96, height=64, num_frames=8, seed=7)
        image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
        job = self.submit(spec=spec, image=image, asked=asked)
        self.bell.ring(spec.name)
        return job

    def ended(self, job: Job) -> Job:
        def look() -> Job | None:
            now = self.get(job)
            return now if now.is_terminal else None

        return until(look, f"the job of {job.engine} ends", within=PATIENCE_SECONDS)

    def loading(self, job: Job) -> Job:
        def look() -> Job | None:
            now = self.get(job)
            return now if now.status is Status.RUNNING and now.stage is Stage.LOADING else None

        return until(look, f"{job.engine} is loaded", within=PATIENCE_SECONDS)

    def let_it_load(self) -> None:
        (self._folder / "may-load").touch()

    def card(self) -> Any:
        return self.run("SELECT * FROM workers")[0]


@pytest.fixture
def desk(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("STILLREEL_TEST_MARKS", str(tmp_path))
    with crew(stack, tmp_path) as people:
        desk = Desk(stack, tmp_path, people.worker(**SETTINGS))
        with contextlib.closing(desk), contextlib.closing(desk.bell):
            yield desk
            desk.let_it_load()


def test_camera_never_waits_for_a_load_and_the_swap_is_in_the_metrics(desk: Desk) -> None:
    assert desk.ended(desk.queue(QuickEngine.spec)).metrics["load_seconds"] >= 0
    held = desk.loading(desk.queue(HeldLoadEngine.spec))

    clips = [desk.ended(desk.queue(CAMERA)) for _ in range(2)]

    assert [clip.status for clip in clips] == [Status.SUCCEEDED] * 2
    assert [clip.metrics["load_seconds"] for clip in clips] == [0, 0]
    assert desk.get(held).stage is Stage.LOADING
    waited = time.monotonic()
    desk.let_it_load()
    done = desk.ended(held)
    assert done.status is Status.SUCCEEDED
    assert (done.attempt, done.failures) == (1, 0)
    assert done.metrics["load_seconds"] > 0
    assert time.monotonic() - waited < PATIENCE_SECONDS
    again = desk.ended(desk.queue(HeldLoadEngine.spec))
    assert again.metrics["load_seconds"] == 0

    def shown() -> Any:
        card = desk.card()
        return card if card["resident_engine"] == "held" else None

    card = until(shown, "the worker shows its model", within=30)
    # The count includes camera, which loads nothing.
    assert card["model_loads"] == 3
    assert card["load_seconds"] >= done.metrics["load_seconds"] * 0.5


@pytest.mark.extended
def test_a_job_canceled_while_its_model_loads_is_not_rendered(desk: Desk) -> None:
    held = desk.loading(desk.queue(HeldLoadEngine.spec))
    desk.jobs.cancel(held.id, owner_id=held.owner_id)
    desk.let_it_load()

    assert desk.ended(desk.queue(QuickEngine.spec)).status is Status.SUCCEEDED
    assert desk.get(held).status is Status.CANCELED


# In `make test`, test_worker.py checks that a drain hands back a job that is being rendered.
@pytest.mark.extended
def test_a_drain_hands_back_a_job_whose_model_is_being_loaded(desk: Desk) -> None:
    held = desk.loading(desk.queue(HeldLoadEngine.spec))
    desk.worker.process.terminate()

    def handed_back() -> bool:
        return desk.get(held).status is Status.QUEUED

    until(handed_back, "the job is handed back", within=PATIENCE_SECONDS)
    assert desk.get(held).failures == 0
