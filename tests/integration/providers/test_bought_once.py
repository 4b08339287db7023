"""A worker that buys from a provider and dies: at most one purchase for a job, one success."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from shared.crashpoints import MARKS_VARIABLE, REMOTE, VARIABLE
from shared.engines.parameters import RequestedParameters
from shared.jobs.job import Job, Variant
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
PICTURE = np.full((64, 96, 3), (30, 90, 150), np.uint8)


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
            picture=PICTURE,
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
        """How many tasks there are for each prompt."""
        tasks = list(self.provider.tasks.values())
        return dict(Counter(task.body["promptText"] for task in tasks))

    def spent(self) -> tuple[int, int]:
        """Return what is reserved and what was spent, in millionths."""
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


def die_at(monkeypatch: pytest.MonkeyPatch, folder: Path, points: tuple[str, ...]) -> None:
    (folder / "marks").mkdir()
    monkeypatch.setenv(VARIABLE, ",".join(points))
    monkeypatch.setenv(MARKS_VARIABLE, str(folder / "marks"))


def outcome(job: Job) -> tuple[Status, str | None]:
    return job.status, job.error_code


def check_three(shop: Shop) -> Job:
    """Order three clips of a worker that dies once at each point it comes by."""
    shop.worker()
    first = shop.ended(shop.order("first"))
    assert outcome(first) == (Status.FAILED, "remote_outcome_unknown")
    assert "may have been charged" in (first.error_message or "")
    second = shop.ended(shop.order("second"))
    assert outcome(second) == (Status.FAILED, "remote_outcome_unknown")
    third = shop.ended(shop.order("third"))
    assert outcome(third) == (Status.SUCCEEDED, None)
    assert shop.bought == {"second": 1, "third": 1}
    return third


def test_a_worker_that_dies_around_a_purchase_buys_nothing_twice(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    die_at(monkeypatch, tmp_path, ("remote_intended", "remote_made", "remote_kept"))
    third = check_three(shop)
    assert third.failures == 0  # A death before the task was kept is forgiven, once it is.
    assert third.result is not None
    assert third.result.ai_generated
    plan = third.metrics["plan"]
    assert (plan["provider"], plan["remote_model"]) == ("Runway", "small")
    assert (plan["price_usd"], plan["cost_usd"]) == (0.1, 0.25)
    # Two whose end nobody knows count with their price, the third with what the provider said.
    assert shop.spent() == (450_000, 450_000)
    clip = shop.desk.storage.get(third.result.artifacts[Variant.VIDEO].key)
    places = {
        "the tables": dump_of(shop),
        "the logs": shop._people.logs() + logs_of(tmp_path),
        "the arguments": arguments(),
        "the clip": clip.decode("latin-1"),
    }
    assert {place for place, text in places.items() if KEY in text} == set()
    assert KEY in shop._key.read_text()


def dump_of(shop: Shop) -> str:
    names = shop.desk.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = [
        shop.desk.run(f"SELECT to_jsonb(t)::text AS row FROM {name['tablename']} t")  # noqa: S608
        for name in names
    ]
    return "\n".join(row["row"] for table in rows for row in table)


def logs_of(folder: Path) -> str:
    return "\n".join(path.read_text(errors="replace") for path in folder.glob("*.log"))


def arguments() -> str:
    return "\n".join(
        " ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])
    )


@pytest.mark.extended
def test_a_worker_that_dies_at_every_point_buys_nothing_twice(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    die_at(monkeypatch, tmp_path, REMOTE)
    third = check_three(shop)
    assert third.attempt > 4
    assert {mark.name for mark in (tmp_path / "marks").iterdir()} == set(REMOTE)


@pytest.mark.extended
def test_all_of_a_worker_killed_while_it_buys_waits_or_fetches(shop: Shop) -> None:
    provider = shop.provider
    provider.may_answer.clear()
    worker, lost = shop.worker(), shop.order("lost")
    provider.wait_for_create()
    worker.kill()
    provider.may_answer.set()
    worker = shop.worker()
    assert outcome(shop.ended(lost)) == (Status.FAILED, "remote_outcome_unknown")

    provider.may_end.clear()
    watched = shop.order("watched")
    until(lambda: len(provider.asked("GET", "/v1/tasks")) > 2, "it is looked at")
    worker.kill()
    provider.may_end.set()
    provider.may_fetch.clear()
    worker = shop.worker()
    until(lambda: provider.asked("GET", "/films"), "it is fetched", within=PATIENCE_SECONDS)
    worker.kill()
    provider.may_fetch.set()
    shop.worker()
    assert outcome(shop.ended(watched)) == (Status.SUCCEEDED, None)
    assert shop.bought == {"lost": 1, "watched": 1}


@pytest.mark.extended
def test_a_worker_told_to_stop_hands_back_what_it_bought(shop: Shop) -> None:
    provider = shop.provider
    provider.may_answer.clear()
    provider.may_end.clear()
    worker, job = shop.worker(), shop.order("kept")
    provider.wait_for_create()
    stopping = threading.Thread(target=worker.terminate)
    stopping.start()
    provider.may_answer.set()
    stopping.join(PATIENCE_SECONDS)
    assert shop.desk.get(job).status is Status.QUEUED
    worker = shop.worker()
    until(lambda: len(provider.asked("GET", "/v1/tasks")) > 2, "it is looked at")
    worker.terminate()
    provider.may_end.set()
    shop.worker()
    done = shop.ended(job)
    assert (outcome(done), done.failures) == ((Status.SUCCEEDED, None), 0)
    assert shop.bought == {"kept": 1}


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
    assert outcome(shop.ended(shop.order("gone"))) == (Status.FAILED, "remote_task_vanished")
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
