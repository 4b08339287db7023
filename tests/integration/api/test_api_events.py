"""A listener hears every end, gets the newest snapshots, and costs almost no memory."""

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import requests
from sqlalchemy import text

from api.limits import SHIPPED
from api.responses.following import stream_id
from shared.jobs.news import MARGIN, JobNews
from shared.jobs.transitions import Claim
from tests.support.gateway import PATIENT, FakeWorker, Gateway, running_gateway
from tests.support.listener import Event, Listening
from tests.support.processes import until
from tests.support.stack import Stack
from worker.keeper import __main__ as keeper
from worker.render import context

SHORT_SILENCE = 0.2


@contextlib.contextmanager
def listening(
    gateway: Gateway, path: str, last_id: str | None = None, **headers: str
) -> Iterator[Listening]:
    if last_id is not None:
        headers["Last-Event-ID"] = last_id
    stream = Listening(f"{gateway.url}{path}", headers)
    assert stream.status_code == 200
    try:
        yield stream
    finally:
        stream.close()


def seen(events: list[Event]) -> list[tuple[str, Any]]:
    return [(event.data["id"], event.data["version"]) for event in events]


@contextlib.contextmanager
def deaf_gateway(stack: Stack, **limits: Any) -> Iterator[Gateway]:
    """Yield a gateway that receives no announcement."""
    settings = stack.settings(redis_url="redis://127.0.0.1:9/0")
    often = replace(PATIENT, floor=timedelta(seconds=0.2), **limits)
    with running_gateway(settings, often) as gateway:
        yield gateway


def has_moved(stream: Listening, before: str | None) -> bool:
    return stream.last_id != before


def test_a_jobs_stream_has_its_snapshots_and_then_its_end(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    job_id = gateway.created()["id"]
    with listening(gateway, f"/v1/jobs/{job_id}/events") as stream:
        assert stream.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["X-Accel-Buffering"] == "no"
        assert stream.headers["Cache-Control"] == "no-cache, no-transform"
        first = stream.next()
        assert (first.name, first.data["status"], first.id) == ("message", "queued", "1")
        job = fake_worker.claim()
        assert stream.until("running").data["version"] == 2
        fake_worker.beat(job, step=3)
        assert stream.next().data["progress"]["step"] == 3
        fake_worker.complete(job)
        last, end = stream.rest()
        assert last.data == gateway.get(f"/v1/jobs/{job_id}").json()
        assert (end.name, end.id) == ("end", last.id)
        assert end.data == {"id": job_id, "status": "succeeded", "version": last.data["version"]}


def test_a_listener_that_comes_back_hears_only_what_is_new(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    path = f"/v1/jobs/{gateway.created()['id']}/events"
    job = fake_worker.claim()
    with listening(gateway, path, "2") as stream:
        fake_worker.beat(job, step=5)
        assert stream.next().id == "3"
    with listening(gateway, path, "1") as stream:
        assert stream.next().id == "3"
    fake_worker.complete(job)
    with listening(gateway, path, "3") as stream:
        assert [event.name for event in stream.rest()] == ["message", "end"]
    with listening(gateway, path, "4") as stream:
        assert [event.name for event in stream.rest()] == ["end"]


def test_a_deleted_job_ends_its_stream(gateway: Gateway, fake_worker: FakeWorker) -> None:
    job_id = gateway.created()["id"]
    with listening(gateway, f"/v1/jobs/{job_id}/events") as stream:
        stream.next()
        requests.delete(f"{gateway.url}/v1/jobs/{job_id}", timeout=30)
        deleted = next(event for event in stream.rest() if event.name == "deleted")
    assert (deleted.data["id"], deleted.data["deleted"]) == (job_id, True)


def test_all_jobs_of_the_caller_are_in_one_stream(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    before = gateway.created()["id"]
    with listening(gateway, "/v1/events") as stream:
        assert stream.next().data["id"] == before
        later = gateway.created()["id"]
        assert stream.next().data["id"] == later
        fake_worker.complete(fake_worker.claim())
        assert stream.until("succeeded").data["id"] == before
        requests.delete(f"{gateway.url}/v1/jobs/{later}", timeout=30)
        gone = stream.next()
        while gone.name != "deleted":
            gone = stream.next()
        assert gone.data == {
            "id": later,
            "object": "job",
            "deleted": True,
            "version": gone.data["version"],
        }


def test_a_resumed_stream_has_the_live_and_every_end_since(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    live, ended, deleted = (gateway.created()["id"] for _ in range(3))
    with listening(gateway, "/v1/events") as stream:
        last_id = [stream.next() for _ in range(3)][-1].id
    gateway.post(f"/v1/jobs/{ended}/cancel")
    requests.delete(f"{gateway.url}/v1/jobs/{deleted}", timeout=30)
    with listening(gateway, "/v1/events", last_id) as stream:
        found = {event.data["id"]: event for event in [stream.next() for _ in range(3)]}
    assert found[live].data["status"] == "queued"
    assert found[ended].data["status"] == "canceled"
    assert found[deleted].name == "deleted"


def test_an_end_that_nobody_announced_is_in_the_stream_of_who_was_away(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    # The job ended longer ago than a look searches, and `newest=0` hides it from a look's newest
    # jobs. The gateway has to ask for the jobs that ended since the id.
    with deaf_gateway(module_stack, newest=0) as gateway:
        ended, deleted = (gateway.created()["id"] for _ in range(2))
        last_id = stream_id(JobNews(fake_worker.db).complete_until() - 10 * MARGIN)
        gateway.post(f"/v1/jobs/{ended}/cancel")
        requests.delete(f"{gateway.url}/v1/jobs/{deleted}", timeout=30)
        with fake_worker.db.begin() as connection:
            connection.execute(
                text(
                    "UPDATE jobs SET finished_at = finished_at - :away,"
                    " deleted_at = deleted_at - :away"
                ),
                {"away": 5 * MARGIN},
            )
        with listening(gateway, "/v1/events", last_id) as stream:
            found = [stream.next() for _ in range(2)]
    assert [(event.name, event.data["id"]) for event in found] == [
        ("message", ended),
        ("deleted", deleted),
    ]


def test_a_transaction_that_commits_late_is_in_the_resumed_stream(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    """An end is written first, and committed only after the listener has received later ids."""
    # Only the margin can find this end.
    with deaf_gateway(module_stack, newest=0, silent_seconds=SHORT_SILENCE) as gateway:
        job_id = gateway.created()["id"]
        with listening(gateway, "/v1/events") as stream:
            stream.next()
            with fake_worker.db.begin() as connection:
                connection.exec_driver_sql(
                    "UPDATE jobs SET status = 'canceled', finished_at = clock_timestamp(),"
                    " version = version + 1"
                )
                for _ in range(4):  # These ids are of looks that began after the end was written.
                    before = stream.last_id
                    until(partial(has_moved, stream, before), "later ids come")
            last_id = stream.last_id
        with listening(gateway, "/v1/events", last_id) as stream:
            assert stream.until("canceled").data["id"] == job_id


def test_an_end_from_before_the_id_does_not_come_again(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    old, live = gateway.created()["id"], gateway.created()["id"]
    gateway.post(f"/v1/jobs/{old}/cancel")
    with fake_worker.db.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET finished_at = finished_at - interval '10 minutes'"
            " WHERE finished_at IS NOT NULL"
        )
    with listening(gateway, "/v1/events") as stream:
        last_id = stream.next().id
    with listening(gateway, "/v1/events", last_id) as stream:
        assert stream.next().data["id"] == live
        fake_worker.complete(fake_worker.claim())
        assert stream.until("succeeded").data["id"] == live


def test_without_announcements_every_change_is_heard(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    with (
        deaf_gateway(module_stack) as gateway,
        listening(gateway, "/v1/events") as stream,
    ):
        job_id = gateway.created()["id"]
        assert stream.until("queued").data["id"] == job_id
        job = fake_worker.claim()
        assert stream.until("running").data["id"] == job_id
        fake_worker.jobs.hand_back(Claim(job.id, job.attempt))
        assert stream.until("queued").data["id"] == job_id
        fake_worker.complete(fake_worker.claim())
        assert stream.until("succeeded").data["id"] == job_id


def test_nothing_is_sent_twice_on_one_stream(module_stack: Stack, fake_worker: FakeWorker) -> None:
    with (
        deaf_gateway(module_stack) as gateway,
        listening(gateway, "/v1/events") as stream,
    ):
        ids = [gateway.created()["id"] for _ in range(3)]
        for _ in ids:
            fake_worker.complete(fake_worker.claim())
        events: list[Event] = []
        while sum(event.data["status"] == "succeeded" for event in events) < len(ids):
            events.append(stream.next())
        time.sleep(1)  # Five looks happen meanwhile, and each finds all three.
        gateway.created()
        events.append(stream.next())
    assert len(set(seen(events))) == len(events)
    assert events[-1].data["status"] == "queued"


def test_silence_has_comments_and_newer_ids(module_stack: Stack, fake_worker: FakeWorker) -> None:
    with deaf_gateway(module_stack, silent_seconds=SHORT_SILENCE) as gateway:
        job_id = gateway.created()["id"]
        with (
            listening(gateway, "/v1/events") as all_jobs,
            listening(gateway, f"/v1/jobs/{job_id}/events") as one_job,
        ):
            before = all_jobs.next().id
            until(lambda: len(all_jobs.comments) > 2 and len(one_job.comments) > 2, "comments")
            until(lambda: all_jobs.last_id > before, "the id goes on")


def test_a_gateway_that_stops_ends_streams_in_order(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    with running_gateway(module_stack.settings()) as gateway:
        job_id = gateway.created()["id"]
        with (
            listening(gateway, "/v1/events") as all_jobs,
            listening(gateway, f"/v1/jobs/{job_id}/events") as one_job,
        ):
            all_jobs.next(), one_job.next()
            gateway.begin_to_stop()
            for stream in (all_jobs, one_job):
                assert [event.name for event in stream.rest()] in ([], ["message"])
                assert stream.comments == ["this gateway stops; come again"]
                assert stream.retry is not None
                assert 500 <= int(stream.retry) <= 5000


def test_a_listener_that_does_not_read_is_sent_the_newest_and_costs_no_queue(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    large = {f"metadata[{number}]": "m" * 500 for number in range(40)}
    job_id = gateway.created(**large)["id"]
    job = fake_worker.claim()
    with socket.socket() as slow, listening(gateway, f"/v1/jobs/{job_id}/events") as quick:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(30)
        slow.connect(("127.0.0.1", gateway.port))
        slow.sendall(f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        until(lambda: len(gateway.ports.job_watcher) == 2, "both listen")
        # Each snapshot has 22 kB. Together they are more than the sockets' buffers can hold.
        for step in range(300):
            fake_worker.beat(job, step=step, total=300)
            while quick.next().data["progress"]["step"] != step:
                pass
        fake_worker.complete(job)
        quick.until("succeeded")
        events, tail = 0, b""
        while b"event: end" not in tail:
            received = slow.recv(65536)
            events += received.count(b"data: {")
            tail = tail[-30_000:] + received
        assert b'"status":"succeeded"' in tail
    assert events < 300, "the quick one had each"


def test_a_listener_far_behind_is_let_go_and_misses_nothing(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    with running_gateway(module_stack.settings(), replace(PATIENT, most_news=0)) as gateway:
        with listening(gateway, "/v1/events") as stream:
            until(lambda: stream.last_id, "it stands")
            job_id = gateway.created()["id"]
            assert stream.rest() == []
            last_id = stream.last_id
        gateway.post(f"/v1/jobs/{job_id}/cancel")
        with listening(gateway, "/v1/events", last_id) as stream:
            assert stream.until("canceled").data["id"] == job_id


def test_streams_of_one_caller_are_limited(module_stack: Stack, fake_worker: FakeWorker) -> None:
    with running_gateway(module_stack.settings(max_streams_per_key=2)) as gateway:
        with listening(gateway, "/v1/events"), listening(gateway, "/v1/events"):
            answer = gateway.get("/v1/events")
            assert (answer.status_code, answer.json()["code"]) == (429, "too_many_streams")
            assert "you have 2 event streams open" in answer.json()["detail"]
            assert int(answer.headers["Retry-After"]) > 0
        until(lambda: not len(gateway.ports.job_watcher), "both are gone")
        with listening(gateway, "/v1/events"):
            pass


@pytest.mark.parametrize("last_id", ["yesterday", "t", "-1", "1e3", "t" + "9" * 18, "²"])
@pytest.mark.parametrize("path", ["/v1/events", "/v1/jobs/{}/events"])
def test_an_id_that_is_none_is_refused(gateway: Gateway, path: str, last_id: str) -> None:
    url = path.format(gateway.created()["id"])
    answer = gateway.get(url, headers={"Last-Event-ID": last_id.encode()})
    assert (answer.status_code, answer.json()["param"]) == (422, "Last-Event-ID")


def test_an_id_from_the_future_misses_nothing(gateway: Gateway, fake_worker: FakeWorker) -> None:
    """A listener has such an id after the database was restored from a backup."""
    with listening(gateway, "/v1/events", f"t{4_000_000_000_000_000}") as stream:
        job_id = gateway.created()["id"]
        assert stream.next().data["id"] == job_id
        assert stream.last_id < "t4"


def test_two_hundred_listeners_hold_no_thread_and_all_hear(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    job_id = gateway.created()["id"]
    job = fake_worker.claim()
    paths = [f"/v1/jobs/{job_id}/events", "/v1/events", f"/v1/jobs/{job_id}?wait=60"]
    sockets = [opened(gateway, paths[number % 3]) for number in range(200)]
    until(lambda: len(gateway.ports.job_watcher) == 200, "all listen")
    assert gateway.get("/v1/queue").status_code == 200
    fake_worker.complete(job)
    for one in sockets:
        with one:
            received = b""
            while b'"status":"succeeded"' not in received:
                received += one.recv(65536)
    until(lambda: len(gateway.ports.job_watcher) == 0, "nobody listens")


def opened(gateway: Gateway, path: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=60)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return connection


def test_the_margin_is_longer_than_any_transaction() -> None:
    deadlines = [
        SHIPPED.database,
        keeper.DATABASE_DEADLINE,
        context.DATABASE_DEADLINE,
    ]
    assert 2 * max(deadlines) < MARGIN
