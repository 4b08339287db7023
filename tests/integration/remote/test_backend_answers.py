"""Each answer of a back end of `/v1/videos` becomes a result or an error of the port."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from shared.engines.entries import EngineEntry, EngineKind
from shared.errors import AppError, RenderFailed
from shared.settings import Settings
from tests.support.elsewhere import request
from tests.support.scripted_service import HANG_UP, Line, ScriptedService, scripted
from worker.engines.base import Unkept
from worker.engines.remote.errors import (
    Away,
    ContentRefused,
    KeyRefused,
    RequestRefused,
    ResultUnusable,
    TaskFailed,
    TaskVanished,
)
from worker.engines.remote.openai_videos.backend import BackendLimits
from worker.engines.remote.openai_videos.engine import OpenAIVideosEngine
from worker.engines.remote.provider import Look, Provider, TaskState

KEY: Final = "planted-key-of-a-back-end"
ECHO: Final = {"error": {"message": f"no {KEY} here", "code": "x", "type": "y"}}
DEEP: Final = b"[" * 50_000 + b"]" * 50_000
MP4: Final = {"Content-Type": "video/mp4"}


class Shop:
    """A back end whose answers a test writes, and our client of it."""

    def __init__(self, service: ScriptedService) -> None:
        self.service = service
        target = f"{service.url}/v1?model=wan"
        entry = EngineEntry("wan", EngineKind.OPENAI_VIDEOS, (target,))
        settings = Settings(_env_file=None, openai_videos_key=KEY)
        engine = OpenAIVideosEngine(settings, entry, BackendLimits(fail_pause_seconds=0))
        self.place: Provider = engine._roster.in_turn()[0]

    def says(self, *lines: Line) -> None:
        self.service.lines[:] = lines


@pytest.fixture(scope="module")
def open_shop() -> Iterator[Shop]:
    with scripted(Line()) as service:
        yield Shop(service)


@pytest.fixture
def shop(open_shop: Shop) -> Shop:
    open_shop.service.heard.clear()
    return open_shop


def named(value: object) -> str | None:
    return f"{value.status}-{value.content[:20]!r}" if isinstance(value, Line) else None


def moderated(code: str) -> dict[str, Any]:
    return {"error": {"message": "no", "code": code}}


@pytest.mark.parametrize(
    ("line", "error", "is_refusal"),
    [
        (Line(429, ECHO, {"Retry-After": "7"}), Away, True),
        (Line(503, {"detail": "loading"}), Away, True),
        (Line(404, {"detail": "Not Found"}), Away, True),
        (Line(500, ECHO), Away, False),
        (Line(502, b"<html>"), Away, False),
        (HANG_UP, Away, False),
        (Line(200, {"id": "v1"}, missing=100), Away, False),
        (Line(200, {"status": "queued"}), Away, False),
        (Line(200, {"id": "a\x00b"}), Away, False),
        (Line(200, b'{"id": "\\ud800"}'), Away, False),
        (Line(200, {"id": "v" * 501}), Away, False),
        (Line(200, b"no json"), Away, False),
        (Line(200, DEEP), Away, False),
        (Line(200, [1]), Away, False),
        (Line(401, ECHO), KeyRefused, None),
        (Line(403, ECHO), KeyRefused, None),
        (Line(400, ECHO), RequestRefused, None),
        (Line(422, {"detail": [{"msg": f"size is {KEY}"}]}), RequestRefused, None),
        (Line(307, b"", {"Location": "http://127.0.0.1:1/v1/videos"}), Away, False),
        (Line(400, moderated("moderation_blocked")), ContentRefused, None),
        (Line(400, moderated("content_policy_violation")), ContentRefused, None),
    ],
    ids=named,
)
def test_a_create_says_what_became_of_it(
    shop: Shop, line: Line, error: type[AppError], is_refusal: bool | None
) -> None:
    shop.says(line)
    with pytest.raises(error) as caught:
        shop.place.create(request(Unkept()), "key")
    assert getattr(caught.value, "is_refusal", None) is is_refusal
    check_words(caught.value)
    assert len(shop.service.heard) == 1, "nothing is sent twice"


def check_words(error: AppError) -> None:
    """Check that a row and a log can store the error."""
    assert KEY not in error.message
    assert error.message.isprintable()
    assert len(error.message) < 400


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ([Line(404, ECHO)], TaskVanished),
        ([Line(401, ECHO)], KeyRefused),
        ([Line(429, ECHO, {"Retry-After": "9" * 5000})], Away),
        ([Line(503, b"")], Away),
        ([Line(500, b"<html>")], Away),
        ([HANG_UP], Away),
        ([Line(200, {"status": "queued"}, missing=9)], Away),
        ([Line(200, {"status": "dreaming\x00\u202e"})], Away),
        ([Line(200, {"status": ["queued"]})], Away),
        ([Line(200, b"nothing")], Away),
        ([Line(200, DEEP)], Away),
        ([Line(302, b"", {"Location": "/v1/videos/w"})], Away),
    ],
    ids=lambda value: named(value[0]) if isinstance(value, list) else None,
)
def test_a_look_that_says_nothing_of_the_video_is_asked_again(
    shop: Shop, lines: list[Line], error: type[AppError]
) -> None:
    shop.says(*lines)
    with pytest.raises(error) as caught:
        shop.place.look("v1")
    check_words(caught.value)
    if isinstance(caught.value, Away):
        assert (caught.value.retry_after_seconds or 0) <= 3600


def test_an_error_at_a_look_that_repeats_itself_is_the_videos(shop: Shop) -> None:
    """vLLM-Omni answers so for a failed video. A passing error of a server comes only once."""
    shop.says(Line(500, ECHO), Line(200, {"status": "queued"}))
    assert shop.place.look("v1").state is TaskState.WAITING
    shop.says(Line(500, ECHO))
    look = shop.place.look("v1")
    assert look.state is TaskState.FAILED
    assert isinstance(look.error, TaskFailed)
    check_words(look.error)


@pytest.mark.parametrize(
    "words", [KEY, "a\x00b\ud800c", "\x1b[31mred", "x" * 5000, {"deep": [KEY]}, 10**400]
)
@pytest.mark.parametrize("shape", ["message", "error", "detail"])
def test_why_a_video_failed_is_told_in_a_line_that_can_be_kept(
    shop: Shop, shape: str, words: Any
) -> None:
    told: dict[str, Any] = {"error": {"message": words}} if shape == "message" else {shape: words}
    shop.says(Line(200, json.dumps({"status": "failed", **told}).encode()))
    look = shop.place.look("v1")
    assert isinstance(look.error, RenderFailed)
    check_words(look.error)


@pytest.mark.parametrize("told", ["NaN", "Infinity", "-1", "1e999", "true", '"half"', "9" * 400])
def test_a_progress_that_is_none_is_none(shop: Shop, told: str) -> None:
    shop.says(Line(200, f'{{"status": "in_progress", "progress": {told}}}'.encode()))
    assert shop.place.look("v1").progress is None
    poll = {"OpenAI-Poll-After-MS": "9" * 5000}
    shop.says(Line(200, b'{"status": "in_progress", "progress": 30}', poll))
    assert shop.place.look("v1").progress == 0.3


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (Line(404, ECHO), TaskVanished),
        (Line(500, ECHO), Away),
        (Line(429, ECHO), Away),
        (HANG_UP, Away),
        (Line(200, b"half", MP4, missing=100), Away),
        (Line(200, b"{}", {"Content-Type": "application/json"}), ResultUnusable),
        (Line(302, b"", {"Location": "http://10.0.0.1/clip"}), ResultUnusable),
        (Line(302, b"", {"Location": f"http://{KEY}.example/"}), AppError),
        (Line(200, b"clip", {**MP4, "Content-Encoding": "br"}), ResultUnusable),
        (Line(418, ECHO), ResultUnusable),
    ],
    ids=named,
)
def test_a_download_that_brings_no_clip(
    shop: Shop, line: Line, error: type[AppError], tmp_path: Path
) -> None:
    shop.says(line)
    with pytest.raises(error) as caught:
        shop.place.download("v1", Look(TaskState.DONE), tmp_path / "clip", lambda *told: None)
    check_words(caught.value)
    sent = [each.headers.get("authorization") for each in shop.service.heard]
    assert sent == [f"Bearer {KEY}"], "the key goes to the back end alone"


def test_a_link_of_a_look_is_no_place_for_the_key(shop: Shop, tmp_path: Path) -> None:
    shop.says(Line(200, {"status": "completed", "url": f"http://{KEY}.example/"}))
    look = shop.place.look("v1")
    assert KEY not in (look.link or "")
    shop.says(Line(400, {"detail": "elsewhere"}))
    with contextlib.suppress(AppError):
        shop.place.download("v1", replace(look), tmp_path / "clip", lambda *told: None)
