"""The worker as real processes: what it does with jobs, and what is left after a kill."""

import contextlib
import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest

from shared.bell import Bell
from shared.engines.parameters import RequestedParameters
from shared.jobs.job import Job, Variant
from shared.lifecycle import Stage, Status
from shared.owners import ANONYMOUS
from shared.settings import Settings
from tests.support.engines import ScriptedEngine
from tests.support.factory import JobFixture
from tests.support.processes import Crew, crew, until
from tests.support.stack import Stack

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

PATIENCE_SECONDS = 180.0
"""The seconds for tests that start processes repeatedly; each start imports for seconds."""

SETTINGS = {
    "engines": "scripted=tests.support.engines:ScriptedEngine",
    "lease_seconds": 3,
    "keeper_tick_seconds": 0.2,
    "drain_seconds": 5,
    "log_format": "json",
}
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


class Bench(JobFixture):
    """A JobFixture that rings the bell, and the processes of the stack."""

    def __init__(self, settings: Settings, people: Crew) -> None:
        # If a ring takes longer, the next ones are dropped, and most of these tests have no
        # keeper.
        self.bell = Bell(settings.redis_url.get_secret_value(), socket_seconds=20)
        super().__init__(settings, self.bell)
        self.people = people

    def render(self, script: str = "", **fields: Any) -> Job:
        """Submit a job whose script the scripted engine follows, and ring."""
        asked = RequestedParameters(
            prompt=script, width=96, height=64, num_frames=4, seed=fields.pop("seed", 7)
        )
        job = self.submit(spec=ScriptedEngine.spec, image=IMAGE, asked=asked, **fields)
        self.bell.ring("scripted")
        return job

    def ended(self, job: Job) -> Job:
        return until(
            lambda: self.when(job, lambda now: now.is_terminal),
            f"{job.id} ends",
            within=PATIENCE_SECONDS,
        )

    def denoising(self, job: Job) -> Job:
        """Wait until a step of this job was shown."""
        return until(
            lambda: self.when(job, lambda now: now.stage is Stage.DENOISING), "a step was shown"
        )

    def let_go(self, name: str) -> None:
        """Release a script that waits at `hold=NAME`."""
        Path(os.environ["STILLREEL_TEST_MARKS"], name).touch()

    def when(self, job: Job, is_so: Any) -> Job | None:
        now = self.get(job)
        return now if is_so(now) else None

    def card(self) -> Any:
        rows = self.run("SELECT * FROM workers")
        return rows[0] if rows else None


@contextlib.contextmanager
def open_bench(stack: Stack, folder: Path) -> Iterator[Bench]:
    with crew(stack, folder) as people:
        bench = Bench(stack.settings(**SETTINGS), people)
        try:
            yield bench
        finally:
            bench.bell.close()
            bench.close()


@pytest.fixture
def bench(stack: Stack, tmp_path: Path) -> Iterator[Bench]:
    """A bench for tests that end their workers."""
    with open_bench(stack, tmp_path) as bench:
        yield bench


@pytest.fixture(scope="module")
def served(module_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One worker and a keeper, for tests that do not harm them.

    The lease lasts ten minutes, so a job that comes back in these tests did not wait for its lease
    to end.
    """
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch, open_bench(module_stack, folder) as bench:
        patch.setenv("STILLREEL_TEST_MARKS", str(folder))
        bench.people.worker(**SETTINGS | {"lease_seconds": 600})
        bench.people.keeper(**SETTINGS)
        yield bench


def test_a_job_becomes_a_video_whose_bytes_match_its_row(served: Bench) -> None:
    bench = served
    job = bench.ended(bench.render("steps=3", outputs=["poster", "gif", "spritesheet"]))
    assert job.status is Status.SUCCEEDED
    assert job.result is not None
    assert set(job.result.artifacts) == {
        Variant.VIDEO,
        Variant.POSTER,
        Variant.GIF,
        Variant.SPRITESHEET,
    }
    moving = job.result.artifacts[Variant.GIF]
    assert (moving.width, moving.height, moving.num_frames) == (96, 64, 4)
    for artifact in job.result.artifacts.values():
        assert len(bench.storage.get(artifact.key)) == artifact.bytes
    with av.open(io.BytesIO(bench.storage.get(job.result.artifacts[Variant.VIDEO].key))) as clip:
        assert len(list(clip.decode(video=0))) == 4


def test_every_line_of_a_running_workers_log_is_an_event(served: Bench) -> None:
    assert served.ended(served.render()).status is Status.SUCCEEDED
    assert {"worker_started", "job_started"} <= {line["event"] for line in logged(served)}


def logged(bench: Bench) -> list[dict[str, Any]]:
    """Return the first worker's log without its last line, which may be incomplete."""
    return [json.loads(line) for line in bench.people.first.text().splitlines(keepends=True)[:-1]]


@pytest.mark.extended
def test_a_worker_that_cannot_open_its_workshop_tries_again(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLREEL_TEST_MARKS", str(tmp_path))
    late = SETTINGS | {"engines": "scripted=tests.support.engines:LateEngine"}
    worker = bench.people.worker(**late)
    assert bench.ended(bench.render()).status is Status.SUCCEEDED
    assert "worker_did_not_open" in worker.text()


def test_twenty_jobs_load_the_model_once(served: Bench) -> None:
    jobs = [served.render(seed=number) for number in range(20)]
    done = [served.ended(job) for job in jobs]
    assert {job.status for job in done} == {Status.SUCCEEDED}
    assert len({job.metrics["worker"] for job in done}) == 1, "one child rendered them all"
    card = until(
        lambda: (c := served.card()) and c["resident_engine"] and c, "the card shows the model"
    )
    assert (card["model_loads"], card["resident_engine"]) == (1, "scripted")


def test_a_worker_killed_while_rendering_still_ends_in_one_success(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLREEL_TEST_MARKS", str(tmp_path))
    # With this lease a busy machine loses no job.
    patient = SETTINGS | {"lease_seconds": 600}
    worker = bench.people.worker(**patient)
    bench.people.keeper(**SETTINGS)
    job = bench.render("steps=3000 pause=0.1 again=0")
    bench.denoising(job)
    worker.kill()
    bench.run("UPDATE jobs SET lease_until = clock_timestamp() WHERE status = 'running'")
    bench.people.worker(**patient)
    done = bench.ended(job)
    assert (done.status, done.attempt, done.failures) == (Status.SUCCEEDED, 2, 1)


def test_a_killed_child_gives_up_its_lease_at_once_and_a_new_one_comes_up(
    served: Bench,
) -> None:
    done = served.ended(served.render("once:exit steps=2"))
    assert (done.status, done.attempt, done.failures) == (Status.SUCCEEDED, 2, 1)


@pytest.mark.extended
def test_a_job_that_kills_its_worker_fails_as_worker_lost_and_others_are_unhurt(
    served: Bench,
) -> None:
    killer, bystander = served.render("exit"), served.render()
    failed = served.ended(killer)
    assert (failed.error_code, failed.attempt) == ("worker_lost", 3)
    assert served.ended(bystander).status is Status.SUCCEEDED


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("oom", "gpu_out_of_memory"),
        ("nan", "non_finite_frames"),
        ("weights", "missing_weights"),
        ("black", "blank_frames"),
    ],
)
def test_a_render_error_ends_the_job_with_its_own_code_and_no_second_try(
    served: Bench, script: str, code: str
) -> None:
    job = served.ended(served.render(script))
    assert (job.status, job.error_code, job.attempt) == (Status.FAILED, code, 1)
    assert job.error_message


def test_a_poisoned_device_restarts_the_process_and_the_job_is_tried_again(
    served: Bench,
) -> None:
    before = served.ended(served.render()).worker
    job = served.render("once:poison")
    until(lambda: served.get(job).failures == 1, "the failure was charged")
    served.run("UPDATE jobs SET due_at = clock_timestamp() WHERE id = :id", id=job.id)
    done = served.ended(job)
    assert done.status is Status.SUCCEEDED
    assert done.metrics["worker"] != before
    assert any("exited with" in line["event"] for line in logged(served))


def test_a_cancel_frees_the_worker_within_the_step(served: Bench) -> None:
    long = served.render("steps=3000 pause=0.1")
    served.denoising(long)
    served.jobs.cancel(long.id, owner_id=ANONYMOUS)
    assert served.ended(served.render()).status is Status.SUCCEEDED
    assert served.get(long).status is Status.CANCELED


def test_a_drain_hands_a_long_job_back_uncharged(bench: Bench) -> None:
    worker = bench.people.worker(**SETTINGS)
    job = bench.render("steps=3000 pause=0.05")
    bench.denoising(job)
    assert worker.terminate() == 0
    now = bench.get(job)
    assert (now.status, now.failures) == (Status.QUEUED, 0)


# In `make test`, a small storm ends all processes at once, and counts the results of their jobs.
@pytest.mark.extended
def test_a_drain_lets_a_short_job_finish(bench: Bench) -> None:
    worker = bench.people.worker(**SETTINGS | {"drain_seconds": 40})
    job = bench.render("steps=40 pause=0.05")
    bench.denoising(job)
    assert worker.terminate() == 0
    assert bench.get(job).status is Status.SUCCEEDED


@pytest.mark.extended
def test_a_finished_clip_and_the_next_image_wait_out_an_outage_of_the_storage(
    served: Bench,
) -> None:
    finished, unread = served.render("hold=outage"), served.render()
    served.denoising(finished)
    served.people.stack.s3.kill()
    served.let_go("outage")
    until(lambda: served.get(finished).stage is Stage.UPLOADING, "the upload is tried")
    until(lambda: unread.id.hex in served.people.first.text(), "the image is asked for again")
    served.people.stack.s3.restart()
    for job in (finished, unread):
        done = served.ended(job)
        assert (done.status, done.attempt, done.failures) == (Status.SUCCEEDED, 1, 0)


def test_the_next_job_starts_before_the_last_one_is_stored(served: Bench) -> None:
    first, second = served.render("hold=first"), served.render()
    served.denoising(first)
    served.people.stack.s3.freeze()
    try:
        served.let_go("first")
        until(
            lambda: served.when(second, lambda now: now.status is Status.RUNNING),
            "the next is begun while the last cannot be stored",
        )
        assert served.get(first).status is Status.RUNNING
    finally:
        served.people.stack.s3.thaw()
    assert served.ended(first).status is Status.SUCCEEDED
    assert served.ended(second).status is Status.SUCCEEDED
    rows = served.run(
        "SELECT a.finished_at - b.started_at AS overlap FROM jobs a, jobs b"
        " WHERE a.id = :first AND b.id = :second",
        first=first.id,
        second=second.id,
    )
    assert rows[0]["overlap"].total_seconds() > 0


def test_a_job_whose_bell_was_lost_is_found_by_the_worker_itself(served: Bench) -> None:
    until(served.card, "the worker is up")
    job = served.submit(
        spec=ScriptedEngine.spec,
        image=IMAGE,
        asked=RequestedParameters(width=96, height=64, num_frames=4),
    )
    assert served.ended(job).status is Status.SUCCEEDED


NVIDIA_SMI = """#!/bin/sh
for index in 0 1; do echo "$index, Fake H200, 143771"; done
"""


# tests/integration/test_lost_cards.py ends one of two workers, and checks that the other goes on.
@pytest.mark.extended
def test_each_gpu_has_its_own_child_and_only_a_dead_one_restarts(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    worker = bench.people.worker(**SETTINGS | {"gpus": "0,1", "lease_seconds": 600})
    until(
        lambda: len(bench.run("SELECT 1 FROM workers")) == 2,
        "both workers are up",
        within=PATIENCE_SECONDS,
    )
    jobs = [bench.render("steps=3000 pause=0.05", seed=number) for number in range(2)]
    running = [bench.denoising(job) for job in jobs]
    mains = {m.environ()["CUDA_VISIBLE_DEVICES"]: m for m in psutil.Process(worker.pid).children()}
    assert sorted(mains) == ["0", "1"]
    victim = next(job for job in running if job.worker and "-gpu1#" in job.worker)
    before = {index: main.pid for index, main in mains.items()}
    mains["1"].send_signal(signal.SIGKILL)
    again = until(
        lambda: bench.when(victim, lambda now: now.attempt == 2 and now.status is Status.RUNNING),
        "the job runs again",
        within=PATIENCE_SECONDS,
    )
    assert again.failures == 1
    after = {
        m.environ()["CUDA_VISIBLE_DEVICES"]: m.pid for m in psutil.Process(worker.pid).children()
    }
    assert {index for index in before if before[index] != after.get(index)} == {"1"}
    assert {bench.get(job).attempt for job in jobs if job.id != victim.id} == {1}
