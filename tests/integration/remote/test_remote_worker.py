"""One process renders many jobs elsewhere; `tests/chaos/test_elsewhere.py` kills such ones."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.engines.entries import EngineEntry, EngineKind
from shared.engines.parameters import RequestedParameters
from shared.engines.registry import EngineRegistry
from shared.engines.spec import EngineSpec
from shared.jobs.job import Job, Variant
from shared.lifecycle import Stage, Status
from shared.owners import ANONYMOUS
from tests.support.factory import JobFixture
from tests.support.processes import Crew, crew, until
from tests.support.stack import Stack
from tests.support.video_server import SGLANG, VLLM, VideoServer, video_server
from worker.engines.remote.openai_videos.address import addresses
from worker.engines.remote.openai_videos.engine import spec

pytestmark = [pytest.mark.long, pytest.mark.timeout(500)]

PATIENCE_SECONDS = 240.0
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
SETTINGS: dict[str, Any] = {
    "lease_seconds": 8,
    "keeper_tick_seconds": 0.2,
    "drain_seconds": 5,
    "max_attempts": 9,
    "remote_jobs": 8,
    "log_format": "json",
}


class Desk(JobFixture):
    """Submits jobs that stand-ins render."""

    def render(self, prompt: str, *, engine: str = "wan-fast", **fields: Any) -> Job:
        asked = RequestedParameters(prompt=prompt, width=96, height=64, num_frames=8, fps=8)
        return self.submit(spec=named(engine), image=IMAGE, asked=asked, **fields)

    def ended(self, job: Job) -> Job:
        return until(
            lambda: (now := self.get(job)).is_terminal and now,
            f"{job.id} ends",
            within=PATIENCE_SECONDS,
        )

    def at(self, job: Job, stage: Stage) -> None:
        until(lambda: self.get(job).stage is stage, f"it is {stage}", within=PATIENCE_SECONDS)

    def kept(self, job: Job) -> Any:
        rows = self.run("SELECT value FROM checkpoints WHERE job_id = :id", id=job.id)
        return rows[0]["value"] if rows else None


def named(engine: str) -> EngineSpec:
    entry = EngineEntry(engine, EngineKind.OPENAI_VIDEOS, ("http://h:8000/v1?model=wan",))
    return spec(engine, addresses(entry)[0])


@contextlib.contextmanager
def open_desk(stack: Stack, folder: Path) -> Iterator[tuple[Desk, Crew]]:
    with (
        crew(stack, folder) as people,
        contextlib.closing(Desk(stack.settings(**SETTINGS))) as desk,
    ):
        yield desk, people


@pytest.fixture
def one() -> Iterator[VideoServer]:
    with video_server(VLLM) as server:
        yield server


@pytest.fixture
def other() -> Iterator[VideoServer]:
    with video_server(SGLANG) as server:
        yield server


@pytest.mark.extended
def test_eight_jobs_keep_their_leases_while_one_back_end_hangs(
    stack: Stack, tmp_path: Path, one: VideoServer, other: VideoServer
) -> None:
    with open_desk(stack, tmp_path) as (desk, people):
        engines = f"{one.entry()},{other.entry('other')}"
        people.worker(engines=engines, **SETTINGS)
        people.keeper(**SETTINGS)
        jobs = [desk.render("hang") for _ in range(7)]
        for job in jobs:
            desk.at(job, Stage.RENDERING_ELSEWHERE)
        first = leases(desk)
        meanwhile = desk.render("steam", engine="other", outputs=["poster", "gif"])
        done = desk.ended(meanwhile)
        assert done.status is Status.SUCCEEDED
        check_finish(desk, done)
        until(
            lambda: all(lease > first[job] for job, lease in expired(desk).items()),
            "each lease was renewed beyond its first end",
        )
        eighth = desk.render("hang")
        desk.at(eighth, Stage.RENDERING_ELSEWHERE)
        workers = {desk.get(job).worker for job in [*jobs, eighth]}
        assert len(workers) == 1, "one process holds eight"
        offered = {offer.spec.name: offer.workers for offer in EngineRegistry(desk.db).offers()}
        assert offered == {"wan-fast": 1, "other": 1}, "what GET /v1/models and the page show"
        waiting = desk.render("steam", engine="other")
        desk.jobs.cancel(jobs[0].id, owner_id=ANONYMOUS)
        until(lambda: one.counts["delete"] == 1, "the cancel reaches the back end")
        told = until(
            lambda: desk.get(jobs[0]).metrics.get("ended_elsewhere"), "what became of it is told"
        )
        assert told == {"reached": True, "may_still_cost": False}
        one.release()
        ends = [desk.ended(job) for job in (*jobs[1:], eighth, waiting)]
        assert {(end.status, end.attempt) for end in ends} == {(Status.SUCCEEDED, 1)}
        assert one.counts["create"] == 8


def leases(desk: Desk) -> dict[Any, Any]:
    rows = desk.run("SELECT id, lease_until FROM jobs WHERE status = 'running'")
    return {row["id"]: row["lease_until"] for row in rows}


def expired(desk: Desk) -> dict[Any, Any]:
    """Return each lease's end minus 8 s, which passes the first end if the lease is renewed."""
    rows = desk.run(
        "SELECT id, lease_until - interval '8 seconds' AS renewed FROM jobs"
        " WHERE status = 'running' AND engine = 'wan-fast'"
    )
    assert len(rows) == 7
    return {row["id"]: row["renewed"] for row in rows}


def check_finish(desk: Desk, done: Job) -> None:
    """Check that a clip from elsewhere is finished like any other, and says what made it."""
    assert done.result is not None
    assert done.result.ai_generated
    assert set(done.result.artifacts) == {Variant.VIDEO, Variant.POSTER, Variant.GIF}
    plan = done.metrics["plan"]
    assert (plan["provider"], plan["remote_model"]) == ("openai-videos", "wan")
    video = desk.storage.get(done.result.artifacts[Variant.VIDEO].key)
    assert b"openai-videos" in video, "the tags name who rendered it"
    assert "127.0.0.1" not in str(done.metrics)
