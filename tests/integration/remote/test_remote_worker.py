"""One process renders many jobs elsewhere, and whatever of it dies, nothing is asked for twice."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import requests

from shared import crashpoints
from shared.crashpoints import MARKS_VARIABLE, VARIABLE
from shared.engines.entries import EngineEntry, EngineKind
from shared.engines.parameters import RequestedParameters
from shared.engines.registry import EngineRegistry
from shared.engines.spec import EngineSpec
from shared.jobs.job import Job, Variant
from shared.lifecycle import Stage, Status
from shared.owners import ANONYMOUS
from tests.support import paid_videos
from tests.support.factory import JobFixture, png
from tests.support.ports import free_port
from tests.support.processes import Crew, Program, crew, until
from tests.support.stack import Stack
from tests.support.video_server import SGLANG, VLLM, VideoServer, video_server
from worker.engines.remote.openai_videos.address import addresses
from worker.engines.remote.openai_videos.engine import spec

pytestmark = [pytest.mark.long, pytest.mark.timeout(500)]

PATIENCE_SECONDS = 240.0
ALWAYS = ((paid_videos.NAME, "steam"), ("wan-fast", "steam"))
"""Engines and prompts of jobs that end by themselves."""

PICTURE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
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
        return self.submit(spec=named(engine), picture=PICTURE, asked=asked, **fields)

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
    """Return when the leases would have ended that were held so long ago; a live one is later."""
    rows = desk.run(
        "SELECT id, lease_until - interval '8 seconds' AS renewed FROM jobs"
        " WHERE status = 'running' AND engine = 'wan-fast'"
    )
    assert len(rows) == 7
    return {row["id"]: row["renewed"] for row in rows}


def check_finish(desk: Desk, done: Job) -> None:
    """A clip from elsewhere is finished as every other is, and says what made it."""
    assert done.result is not None
    assert done.result.ai_generated
    assert set(done.result.artifacts) == {Variant.VIDEO, Variant.POSTER, Variant.GIF}
    plan = done.metrics["plan"]
    assert (plan["provider"], plan["remote_model"]) == ("openai-videos", "wan")
    video = desk.storage.get(done.result.artifacts[Variant.VIDEO].key)
    assert b"openai-videos" in video, "the tags name who rendered it"
    assert "127.0.0.1" not in str(done.metrics)


@pytest.mark.extended
@pytest.mark.timeout(1500)
def test_a_drain_hands_back_what_is_rendered_elsewhere_and_the_next_worker_polls_it(
    stack: Stack, tmp_path: Path, one: VideoServer
) -> None:
    with open_desk(stack, tmp_path) as (desk, people):
        worker = people.worker(engines=one.entry(), **SETTINGS)
        job = desk.render("hold")
        desk.at(job, Stage.RENDERING_ELSEWHERE)
        assert worker.terminate() == 0
        now = desk.get(job)
        assert (now.status, now.failures, desk.kept(job)["reached"]) == (Status.QUEUED, 0, "made")
        canceled = desk.render("hold")
        people.worker(engines=one.entry(), **SETTINGS)
        desk.at(canceled, Stage.RENDERING_ELSEWHERE)
        one.release()
        assert {desk.ended(each).status for each in (job, canceled)} == {Status.SUCCEEDED}
        assert one.counts["create"] == 2


# In each run tests/integration/providers/test_bought_once.py kills one around a purchase.
@pytest.mark.extended
def test_a_paid_clip_is_bought_once_at_most_wherever_the_worker_dies(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: VideoServer
) -> None:
    """The first job dies before its create, the second after it, the third four times later on."""
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setenv(VARIABLE, ",".join(crashpoints.REMOTE))
    monkeypatch.setenv(MARKS_VARIABLE, str(marks))
    monkeypatch.setenv(paid_videos.VARIABLE, one.base)
    with open_desk(stack, tmp_path) as (desk, people):
        people.worker(engines=paid_videos.ENTRY, **SETTINGS | {"lease_seconds": 600})
        jobs = [desk.render("steam", engine=paid_videos.NAME) for _ in range(3)]
        unsent, lost, bought = [desk.ended(job) for job in jobs]
        assert {mark.name for mark in marks.iterdir()} == set(crashpoints.REMOTE)
        for end in (unsent, lost):
            assert (end.status, end.error_code) == (Status.FAILED, "remote_outcome_unknown")
            assert "may have been charged" in (end.error_message or "")
            assert end.attempt == 2
        assert (bought.status, bought.attempt) == (Status.SUCCEEDED, 5)
        keys = [headers["idempotency-key"] for headers in one.headers]
        assert len(keys) == len(set(keys)) == 2, "one create for each that was sent"


@pytest.mark.extended
@pytest.mark.timeout(1500)
def test_whatever_is_killed_a_paid_clip_is_bought_once_and_own_ones_end(
    stack: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    one: VideoServer,
    other: VideoServer,
) -> None:
    """In turn: kill -9 of the child, of the worker with all its children, and SIGTERM.

    The gateway is killed or asked to stop each time while clients insist on their jobs.
    """
    with video_server() as shop, open_desk(stack, tmp_path) as (desk, people):
        monkeypatch.setenv(paid_videos.VARIABLE, shop.base)
        EngineRegistry(desk.db).offer([named("wan-fast"), named(paid_videos.NAME)])
        engines = f"{one.entry()},{other.entry()},{paid_videos.ENTRY}"
        hurried = SETTINGS | {"engines": engines, "lease_seconds": 3, "port": free_port()}
        people.keeper(**hurried)
        accepted: list[str] = []
        for number in range(6):
            worker, gateway = people.worker(**hurried), people.start("api", **hurried)
            clients = [
                Client(hurried["port"], f"{number}-{place}", engine, prompt)
                for place, (engine, prompt) in enumerate(
                    [("wan-fast", "hold" if number % 2 else "steam"), *ALWAYS]
                )
            ]
            clients[0].join()
            gateway.kill() if number % 2 else gateway.terminate()
            gateway = people.start("api", **hurried)
            for client in clients:
                client.join()
            accepted += [client.job_id for client in clients]
            until(lambda: rendering(desk), "something is rendered", within=PATIENCE_SECONDS)
            end_somehow(worker, number)
            gateway.kill()
        one.release()
        other.release()
        people.worker(**hurried)
        assert len(set(accepted)) == 18
        until(lambda: not live(desk), "all end", within=PATIENCE_SECONDS)
        keys = [headers["idempotency-key"] for headers in shop.headers]
        assert len(keys) == len(set(keys)), "nothing was bought twice"
        rows = desk.run("SELECT engine, status, error_code FROM jobs")
        assert len(rows) == 18, "a key that was sent again made no second job"
        for row in rows:
            is_unknown = row["error_code"] == "remote_outcome_unknown"
            assert row["status"] == Status.SUCCEEDED or (row["engine"] == "paid" and is_unknown)


class Client(threading.Thread):
    """Sends one job until the gateway has accepted it, however often that dies."""

    def __init__(self, port: int, key: str, engine: str, prompt: str) -> None:
        super().__init__(daemon=True)
        self.job_id = ""
        self._url = f"http://127.0.0.1:{port}/v1/jobs"
        self._key = {"Idempotency-Key": key}
        self._form = {"model": engine, "prompt": prompt, "width": "96", "height": "64"}
        self.start()

    def run(self) -> None:
        form = self._form | {"num_frames": "8", "fps": "8"}
        ends_at = time.monotonic() + PATIENCE_SECONDS
        while not self.job_id and time.monotonic() < ends_at:
            with contextlib.suppress(requests.RequestException):
                files = {"image": ("photo.png", png(PICTURE))}
                answer = requests.post(
                    self._url, data=form, files=files, headers=self._key, timeout=30
                )
                if answer.status_code == 202:
                    self.job_id = answer.json()["id"]
            time.sleep(0.1)


def live(desk: Desk) -> list[Any]:
    rows: list[Any] = desk.run("SELECT 1 FROM jobs WHERE status IN ('queued', 'running')")
    return rows


def rendering(desk: Desk) -> list[Any]:
    rows: list[Any] = desk.run("SELECT 1 FROM jobs WHERE stage = 'rendering_elsewhere'")
    return rows or ([1] if not live(desk) else [])


def end_somehow(worker: Program, number: int) -> None:
    if number % 3 == 2:
        worker.terminate()
        return
    if number % 3 == 0 and (children := worker.children()):
        with contextlib.suppress(psutil.NoSuchProcess):
            children[-1].kill()
    worker.kill()
