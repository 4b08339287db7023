"""A worker that buys from a provider: how its answers end a job, and how a cancel does."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.engines.parameters import RequestedParameters
from shared.jobs.job import Job
from shared.lifecycle import Status
from shared.owners import ANONYMOUS
from tests.support.clips import moving_clip, write_clip
from tests.support.factory import JobFixture
from tests.support.processes import Crew, Program, crew, until
from tests.support.providers.runway import RunwayService
from tests.support.providers.service import KEY, LOST, Reply
from tests.support.providers.small_engine import PATH, SPEC
from tests.support.stack import Stack

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

PATIENCE_SECONDS = 300.0
IMAGE = np.full((64, 96, 3), (30, 90, 150), np.uint8)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return write_clip(path, moving_clip(8, width=96, height=64), fps=8).read_bytes()


class Shop:
    """A provider, a keeper, and workers that buy from it."""

    def __init__(self, stack: Stack, people: Crew, provider: RunwayService, folder: Path) -> None:
        self.provider = provider
        self._people = people
        self._key = folder / "key"
        self._key.write_text(f"{KEY}\n")
        self._settings: dict[str, Any] = {
            "engines": f"small={PATH}",
            "runway_url": provider.url,
            "runway_key_file": self._key,
            "send_images_to": "runway",
            "outbound_allow": "127.0.0.0/8",
            "lease_seconds": 3,
            "keeper_tick_seconds": 0.2,
            "drain_seconds": 5,
            "log_format": "json",
            "log_level": "DEBUG",
        }
        self.desk = JobFixture(stack.settings(lease_seconds=3))
        people.keeper(**self._settings)

    def worker(self) -> Program:
        return self._people.worker(**self._settings)

    def order(self, prompt: str) -> Job:
        return self.desk.submit(
            spec=SPEC,
            image=IMAGE,
            asked=RequestedParameters(prompt=prompt, num_frames=8),
            price_micros=100_000,
        )

    def ended(self, job: Job) -> Job:
        def look() -> Job | None:
            now = self.desk.get(job)
            return now if now.is_terminal else None

        return until(look, f"{job.id} ends", within=PATIENCE_SECONDS)

    @property
    def bought(self) -> dict[str, int]:
        """Return the number of tasks for each prompt."""
        tasks = list(self.provider.tasks.values())
        return dict(Counter(task.body["promptText"] for task in tasks))

    def spent(self) -> tuple[int, int]:
        """Return the reserved and the spent money, in millionths of a dollar."""
        (row,) = self.desk.run(
            "SELECT sum(reserved_micros)::int AS reserved, sum(cost_micros)::int AS cost"
            " FROM usage_days"
        )
        return row["reserved"], row["cost"]


@pytest.fixture
def shop(stack: Stack, tmp_path: Path, film: bytes) -> Iterator[Shop]:
    with RunwayService(film) as provider, crew(stack, tmp_path) as people:
        shop = Shop(stack, people, provider, tmp_path)
        with contextlib.closing(shop.desk):
            yield shop


def outcome(job: Job) -> tuple[Status, str | None]:
    return job.status, job.error_code


def logs_of(folder: Path) -> str:
    return "\n".join(path.read_text(errors="replace") for path in folder.glob("*.log"))


@pytest.mark.extended
def test_what_a_provider_answers_becomes_of_the_job(shop: Shop) -> None:
    provider = shop.provider
    provider.at_create.append(Reply(429, {}, {"Retry-After": "1"}))
    provider.at_create.append(Reply(503, {}))
    shop.worker()
    waited = shop.ended(shop.order("waits"))
    assert (outcome(waited), waited.failures) == ((Status.SUCCEEDED, None), 0)
    provider.at_create.append(Reply(401, {"error": KEY}))
    assert outcome(shop.ended(shop.order("key"))) == (Status.FAILED, "remote_unavailable")
    provider.at_create.append(Reply(400, {"error": "a bad ratio"}))
    assert outcome(shop.ended(shop.order("bad"))) == (Status.FAILED, "remote_request_refused")
    provider.at_create.append(LOST)
    assert outcome(shop.ended(shop.order("lost"))) == (Status.FAILED, "remote_outcome_unknown")
    before = shop.spent()
    provider.failure = "SAFETY.INPUT.IMAGE"
    assert outcome(shop.ended(shop.order("unsafe"))) == (Status.FAILED, "remote_content_refused")
    assert shop.spent() == before, "Runway said that it took nothing"
    provider.failure = None
    provider.at_look.append(Reply(404, {}))
    assert outcome(shop.ended(shop.order("not known yet"))) == (Status.SUCCEEDED, None)
    provider.at_look.extend([Reply(404, {})] * 100)
    assert outcome(shop.ended(shop.order("gone"))) == (Status.FAILED, "remote_task_vanished")
    provider.at_look.clear()
    provider.at_film.append(Reply(403, b""))
    assert outcome(shop.ended(shop.order("fresh link"))) == (Status.SUCCEEDED, None)
    provider.at_film.append(Reply(200, b"<html>", {"Content-Type": "text/html"}))
    assert outcome(shop.ended(shop.order("html"))) == (Status.FAILED, "remote_result_unusable")
    assert all(count == 1 for count in shop.bought.values())
    assert KEY not in logs_of(Path(shop._key.parent))


@pytest.mark.extended
def test_a_cancel_reaches_the_provider_and_says_that_it_may_cost(shop: Shop) -> None:
    shop.provider.may_end.clear()
    shop.worker()
    job = shop.order("canceled")
    task = shop.provider.wait_for_create()
    until(lambda: task.looks > 0, "it is looked at")
    shop.desk.jobs.cancel(job.id, owner_id=ANONYMOUS)
    until(lambda: task.is_canceled, "the provider was told", within=PATIENCE_SECONDS)
    told = until(lambda: shop.desk.get(job).metrics.get("ended_elsewhere"), "the job says so")
    assert told == {"reached": True, "may_still_cost": True}
    assert shop.spent() == (100_000, 100_000), "its price is not given back"
