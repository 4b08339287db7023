"""A listener of all jobs misses no end of a job while the gateway is killed under it."""

import threading
import time
from contextlib import closing
from datetime import timedelta
from http.client import HTTPException
from pathlib import Path
from uuid import UUID

import pytest

from bench.noop import NoopEngine
from shared.errors import RenderFailed
from shared.jobs.job import Artifact, Result, Variant, parse_id, public_id
from shared.jobs.transitions import Claim
from shared.lifecycle import TERMINAL
from shared.owners import ANONYMOUS
from tests.support.factory import JobFixture
from tests.support.listener import Listening
from tests.support.ports import free_port
from tests.support.processes import crew, until
from tests.support.stack import Stack

KILLS = 2
BETWEEN_TRIES_SECONDS = 0.05
AWAY = timedelta(minutes=5)
LONG_AGO = """
UPDATE jobs SET finished_at = finished_at - :away, deleted_at = deleted_at - :away
WHERE id = ANY(:ids)
"""
VIDEO = Artifact(key="k", content_type="video/mp4", bytes=1, sha256="a")


class Steadfast:
    """Listens to `/v1/events`, and sends the last id again whenever the stream is cut."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._last_id = ""
        self._stream: Listening | None = None
        self._stopping = threading.Event()
        self.ended: dict[str, str] = {}
        self.streams = 0
        self.is_connected = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def has_begun(self) -> bool:
        return self._last_id != "" or bool(self._stream and self._stream.last_id)

    def sleep(self, time: timedelta) -> None:
        """Make the last id older by this time, as if the listener had slept."""
        micros = int(self._last_id.removeprefix("t")) - time // timedelta(microseconds=1)
        self._last_id = f"t{micros}"

    def close(self) -> None:
        self._stopping.set()
        if self._stream is not None:
            self._stream.close()
        self._thread.join(timeout=60)

    def _run(self) -> None:
        while not self._stopping.is_set():
            headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
            try:
                stream = self._stream = Listening(f"{self._url}/v1/events", headers)
            except (OSError, HTTPException):
                time.sleep(BETWEEN_TRIES_SECONDS)
                continue
            if stream.status_code == 200:
                self.streams += 1
                self.is_connected = True
                self._take(stream)
                self.is_connected = False
            stream.close()

    def _take(self, stream: Listening) -> None:
        for event in stream.each():
            if event.name == "deleted":
                self.ended[event.data["id"]] = "deleted"
            elif event.data.get("status") in TERMINAL:
                self.ended.setdefault(event.data["id"], event.data["status"])
        # Every event up to this id has been read now.
        self._last_id = stream.last_id or self._last_id


def end(desk: JobFixture, number: int, waiting: list[UUID]) -> tuple[str, str]:
    """End one of the waiting jobs, in one of four ways; return its id and the name of the end."""
    if number % 4 < 2:
        job_id, how = waiting[0], "canceled" if number % 4 else "deleted"
        (desk.jobs.cancel if number % 4 else desk.jobs.delete)(job_id, owner_id=ANONYMOUS)
    else:
        claimed = desk.jobs.claim([NoopEngine.spec.name], worker="hand")
        assert claimed is not None
        claim, job_id = Claim(claimed.id, claimed.attempt), claimed.id
        if number % 4 == 2:
            how = "failed"
            desk.jobs.fail(claim, RenderFailed("as asked"), retryable=False, metrics={})
        else:
            how = "succeeded"
            result = Result(ai_generated=False, artifacts={Variant.VIDEO: VIDEO})
            desk.jobs.complete(claim, result, {})
    waiting.remove(job_id)
    return public_id(job_id), how


@pytest.mark.extended
@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_listener_misses_no_end_while_the_gateway_is_killed_twice(
    stack: Stack, tmp_path: Path
) -> None:
    port, count = free_port(), 1000
    kills = {count // 3, 2 * count // 3}
    starts = {kill + count // 10 for kill in kills}
    with (
        crew(stack, tmp_path) as people,
        closing(JobFixture(stack.settings())) as desk,
    ):
        waiting = [desk.submit().id for _ in range(count)]
        program = people.start("api", port=port)
        with closing(Steadfast(f"http://127.0.0.1:{port}")) as listener:
            until(lambda: listener.has_begun, "the listener has its first id")
            ends: dict[str, str] = {}
            told: list[str] = []
            for number in range(count):
                if number in kills:
                    program.kill()
                    told = []
                if number in starts:
                    # Nobody announced the jobs that ended since the kill, because no gateway ran.
                    # The test also makes these ends old, because a gateway always looks for ends
                    # of the last minute.
                    until(lambda: not listener.is_connected, "the listener has lost it")
                    listener.sleep(2 * AWAY)
                    desk.run(LONG_AGO, ids=[parse_id(each) for each in told], away=AWAY)
                    program = people.start("api", port=port)
                    until(lambda: listener.is_connected, "the listener has come back")
                job_id, how = end(desk, number, waiting)
                ends[job_id] = how
                told.append(job_id)
            until(lambda: len(listener.ended) >= count, f"all {count} ends are heard", within=200)
            until(lambda: listener.ended == ends, "each is heard as it was")
            assert listener.streams == KILLS + 1
