"""The Python client, blocking and async, against a service whose answers a test wrote."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stillreel import (
    AsyncClient,
    Client,
    Conflict,
    ConnectionFailed,
    DownloadDamaged,
    Event,
    Job,
    JobFailed,
    NotFound,
    PhotoUnreadable,
    StillreelError,
    Unavailable,
    UnexpectedAnswer,
    WaitTimedOut,
    WrongAddress,
)
from stillreel.retry import RetryPolicy
from stillreel.server_sent_events import EventReader, ServerSentEvent
from tests.support.scripted_service import (
    HANG_UP,
    Line,
    ScriptedService,
    job_body,
    problem,
    scripted,
    succeeded,
)

PHOTO = b"a photo"
STREAM = {"Content-Type": "text/event-stream"}
Call = Callable[..., Any]
QUICK = RetryPolicy(
    first_pause_seconds=0.0005,
    reopen_seconds=0.001,
    poll_pause_seconds=0.001,
    list_pause_seconds=0.01,
)


def blocking(service: ScriptedService, call: Callable[[Any], Any], **options: Any) -> Any:
    with Client(service.url, **options) as client:
        result = call(client)
        return list(result) if isinstance(result, Iterator) else result


def awaited(service: ScriptedService, call: Callable[[Any], Any], **options: Any) -> Any:
    async def run() -> Any:
        async with AsyncClient(service.url, **options) as client:
            result = call(client)
            if isinstance(result, Awaitable):
                return await result
            assert isinstance(result, AsyncIterator)
            return [each async for each in result]

    return asyncio.run(run())


@pytest.fixture(params=[blocking, awaited], ids=["blocking", "async"])
def play(request: pytest.FixtureRequest) -> Call:
    """Either client, with pauses between tries that are a thousandth of the shipped ones."""

    def played(service: ScriptedService, call: Call, *, retries: int = 5, **options: Any) -> Any:
        return request.param(service, call, retries=replace(QUICK, retries=retries), **options)

    return played


def submit(client: Any) -> Any:
    return client.submit(PHOTO, "slow push in")


@pytest.mark.parametrize(
    "first",
    [
        HANG_UP,
        problem(503, "busy", Retry_After="0"),
        problem(429, "queue_full"),
        Line(502, b"<p>"),
    ],
)
def test_a_submit_that_is_sent_again_is_the_same_request_to_the_service(
    play: Call, first: Line
) -> None:
    with scripted(first, first, Line(202, job_body())) as service:
        job: Job = play(service, submit)
    assert job.id == "job_1"
    assert len(service.heard) == 3
    keys = {heard.headers["idempotency-key"] for heard in service.heard}
    assert len(keys) == 1
    assert all(PHOTO in heard.body for heard in service.heard)


def test_two_submits_are_two_requests_to_the_service(play: Call) -> None:
    with scripted(Line(202, job_body())) as service:
        play(service, submit)
        play(service, submit)
    assert len({heard.headers["idempotency-key"] for heard in service.heard}) == 2


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (problem(503, "busy", x_should_retry="false"), Unavailable),
        (problem(503, "busy", Retry_After="3600"), Unavailable),
        (problem(409, "job_terminal"), Conflict),
        (problem(404, "not_found"), NotFound),
        (Line(301, None, {"Location": "https://elsewhere.example/"}), UnexpectedAnswer),
        (Line(200, b"<html>a page</html>"), UnexpectedAnswer),
    ],
)
def test_what_cannot_pass_is_told_at_once(
    play: Call, line: Line, kind: type[StillreelError]
) -> None:
    with scripted(line) as service, pytest.raises(kind):
        play(service, lambda client: client.cancel("job_1"))
    assert len(service.heard) == 1


def test_a_service_that_stays_away_is_given_up(play: Call) -> None:
    with scripted(HANG_UP) as service, pytest.raises(ConnectionFailed, match="broke"):
        play(service, submit, retries=2)
    assert len(service.heard) == 3


def test_a_key_is_never_made_twice(play: Call) -> None:
    """The first try may have made a key; its secret would be lost, and its name taken."""
    with scripted(HANG_UP) as service, pytest.raises(ConnectionFailed):
        play(service, lambda client: client.create_key("cms"))
    assert len(service.heard) == 1


def test_nothing_answers_is_said_with_the_address_and_what_to_do(play: Call) -> None:
    with scripted(HANG_UP) as service:
        pass
    with pytest.raises(ConnectionFailed, match=f"nothing answers at {service.url}.*STILLREEL_URL"):
        play(service, submit, retries=0)


def test_the_pages_of_a_listing_are_one_iterator(play: Call) -> None:
    pages = [
        Line(200, {"data": [job_body(id="job_3"), job_body(id="job_2")], "has_more": True}),
        Line(200, {"data": [job_body(id="job_1")], "has_more": False}),
    ]
    with scripted(*pages) as service:
        found: list[Job] = play(service, lambda client: client.jobs(metadata={"a": "b c"}))
    assert [job.id for job in found] == ["job_3", "job_2", "job_1"]
    assert "after=job_2" in service.heard[1].path
    assert all("metadata%5Ba%5D=b" in heard.path for heard in service.heard)


def event(version: int, **changes: Any) -> bytes:
    body = job_body(version=version, **changes)
    return f"id: {version}\ndata: {json.dumps(body)}\n\n".encode()


def test_a_broken_stream_goes_on_after_its_last_event(play: Call) -> None:
    """The client leaves out repeated events, and the half of an event before the break."""
    first = Line(200, event(1) + event(2, status="running") + event(3)[:40], STREAM, missing=9)
    second = Line(200, event(3) + event(2, status="running") + event(4, status="failed"), STREAM)
    with scripted(first, second) as service:
        found: list[Job] = play(service, lambda client: client.follow("job_1"))
    assert [job.version for job in found] == [1, 2, 3, 4]
    assert "last-event-id" not in service.heard[0].headers
    assert service.heard[1].headers["last-event-id"] == "2"


@pytest.mark.parametrize("answer", [problem(404, "not_found"), problem(429, "too_many"), HANG_UP])
def test_without_a_stream_a_job_is_followed_by_polls(play: Call, answer: Line) -> None:
    polls = [
        Line(200, job_body(version=1), {"ETag": 'W/"1"'}),
        Line(304),
        Line(200, succeeded(), {"ETag": 'W/"9"'}),
    ]
    with scripted(answer, *polls) as service:
        found: list[Job] = play(service, lambda client: client.follow("job_1"))
    assert [job.status for job in found] == ["queued", "succeeded"]
    assert service.heard[0].path == "/v1/jobs/job_1/events"
    assert service.heard[2].path == "/v1/jobs/job_1?wait=30"
    assert service.heard[2].headers["if-none-match"] == 'W/"1"'


def test_news_of_all_jobs_are_told_once_and_deletions_too() -> None:
    gone = b'event: deleted\nid: b\ndata: {"id": "job_2", "deleted": true, "version": 3}\n\n'
    news = event(1) + b"id: a\n\n" + event(1) + event(2, id="job_2") + gone + gone
    with scripted(Line(200, news, STREAM)) as service, Client(service.url) as client:
        events = client.events()
        told = [next(events) for _ in range(3)]
        events.close()  # type: ignore[attr-defined]  # A generator, as an iterator that may end.
    assert [(each.job_id, each.job and each.job.version) for each in told] == [
        ("job_1", 1),
        ("job_2", 2),
        ("job_2", None),
    ]


def test_without_a_stream_all_jobs_are_followed_by_listings() -> None:
    def page(*jobs: dict[str, Any]) -> Line:
        return Line(200, {"data": list(jobs), "has_more": False})

    lines = [
        problem(404, "not_found"),
        page(job_body()),
        page(),
        page(),
        page(),
        Line(200, succeeded()),
    ]
    with scripted(*lines) as service, Client(service.url, retries=QUICK) as client:
        events = client.events()
        told: list[Event] = [next(events) for _ in range(2)]
        events.close()  # type: ignore[attr-defined]  # As above.
    assert [each.job and each.job.status for each in told] == ["queued", "succeeded"]


def test_an_event_may_arrive_in_any_pieces() -> None:
    body = b": hello\r\nretry: 1500\r\nevent: end\r\nid: 4\r\ndata: {\r\ndata: }\r\n\r\nid: 5\n\n"
    for size in range(1, len(body)):
        reader = EventReader()
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        found = [each for piece in pieces for each in reader.feed(piece)]
        assert found == [ServerSentEvent("end", "{\n}")]
        assert (reader.last_id, reader.retry_seconds) == ("5", 1.5)


def test_a_wait_has_an_end_and_the_job_goes_on(play: Call) -> None:
    with scripted(Line(200, job_body())) as service, pytest.raises(WaitTimedOut) as told:
        play(service, lambda client: client.wait("job_1", timeout_seconds=0.05))
    assert told.value.job.status == "queued"


def test_a_file_that_breaks_off_is_fetched_again_whole(play: Call, tmp_path: Path) -> None:
    video = bytes(range(256)) * 40
    lines = [
        Line(200, succeeded(video)),
        Line(200, video[:5000], {"Content-Type": "video/mp4"}, missing=5240),
        problem(503, "storage_unavailable", Retry_After="0"),
        Line(200, video, {"Content-Type": "video/mp4"}),
    ]
    target = tmp_path / "clip.mp4"
    with scripted(*lines) as service:
        play(service, lambda client: client.download("job_1", target))
    assert target.read_bytes() == video
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_damaged_file_replaces_nothing(play: Call, tmp_path: Path) -> None:
    target = tmp_path / "clip.mp4"
    target.write_bytes(b"the clip of yesterday")
    lines = [Line(200, succeeded(b"an mp4")), Line(200, b"an mp5")]
    with scripted(*lines) as service, pytest.raises(DownloadDamaged):
        play(service, lambda client: client.download("job_1", target), retries=1)
    assert target.read_bytes() == b"the clip of yesterday"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_job_that_failed_raises_with_its_reason(play: Call) -> None:
    error = {"code": "gpu_out_of_memory", "message": "too large", "retryable": False}
    failed = job_body(status="failed", error=error, version=3)
    with (
        scripted(Line(202, job_body()), Line(200, failed)) as service,
        pytest.raises(JobFailed, match=r"job_1 failed \(gpu_out_of_memory\): too large") as told,
    ):
        play(service, lambda client: client.generate(PHOTO, "x"))
    assert told.value.job.error is not None


def test_what_a_newer_service_says_besides_is_kept_and_does_no_harm(play: Call) -> None:
    body = job_body(mood="good", queue={"position": 1, "eta_seconds": 3, "colour": "red"})
    with scripted(Line(200, body)) as service:
        job: Job = play(service, lambda client: client.job("job_1"))
    assert job.raw["mood"] == "good"
    assert job.queue is not None
    assert job.queue.eta_seconds == 3


def test_the_key_is_sent_and_shown_nowhere(play: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLREEL_KEY", "sr_canary")
    with scripted(Line(200, job_body())) as service:
        shown: list[str] = []

        def look(client: Any) -> Any:
            shown.extend(map(repr, (client, client.address, vars(client))))
            return client.job("job_1")

        play(service, look)
    assert service.heard[0].headers["authorization"] == "Bearer sr_canary"
    assert "canary" not in "".join(shown)


def test_the_key_does_not_follow_a_redirect_to_a_foreign_store(play: Call) -> None:
    with scripted(Line(200, b"an mp4")) as store:
        elsewhere = {"Location": f"{store.url.replace('127.0.0.1', 'localhost')}/clip"}
        lines = [Line(200, succeeded()), Line(307, None, elsewhere)]
        with scripted(*lines) as service:
            video = play(service, lambda client: client.content("job_1"), key="sr_canary")
    assert video == b"an mp4"
    assert "authorization" not in store.heard[0].headers


@pytest.mark.parametrize("url", ["127.0.0.1:7860", "ftp://x", "http://", "http://x:99999", "x y"])
def test_an_address_that_cannot_be_one_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(WrongAddress, match="STILLREEL_URL"):
        Client(url)


@pytest.mark.parametrize("photo", ["no such file.jpg", b""])
def test_a_photo_that_cannot_be_read_is_refused_before_anything_is_sent(
    play: Call, photo: Any
) -> None:
    with scripted(HANG_UP) as service, pytest.raises(PhotoUnreadable):
        play(service, lambda client: client.submit(photo, "x"))
    assert service.heard == []
