"""Over real sockets, each answer of a provider becomes a result or an error of the port."""

import base64
import io
import re
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import structlog
import trustme

from shared.engines.entries import EngineKind
from tests.support.ports import free_port
from tests.support.providers.case import (
    FILM,
    SMALL,
    TARGETS,
    Case,
    case,
    engine_at,
    fal,
    named,
    provider_of,
    real,
)
from tests.support.providers.runway import RunwayService
from tests.support.providers.service import (
    CUT,
    KEY,
    LOST,
    Reply,
    cut,
)
from worker.engines.remote.errors import (
    Away,
    ContentRefused,
    KeyRefused,
    RequestRefused,
    TaskFailed,
    TaskVanished,
)
from worker.engines.remote.hosted.api import NotServed
from worker.engines.remote.provider import TaskState

__all__ = ["case", "fal", "real"]


def test_a_task_goes_from_create_to_its_film(case: Case, tmp_path: Path) -> None:
    created = case.provider.create(case.request(negative_prompt="text"), "key")
    assert list(case.service.tasks) == [created.task]
    assert case.provider.look(created.task).state is TaskState.WAITING
    look = case.provider.look(created.task)
    assert look.state is TaskState.DONE
    heard: list[tuple[int, int | None]] = []
    case.provider.download(created.task, look, tmp_path / "film", lambda *told: heard.append(told))
    assert (tmp_path / "film").read_bytes() == FILM
    assert heard == [(len(FILM), len(FILM))]
    # The link leads to the provider's store, so the key is not sent there.
    assert all("authorization" not in each.headers for each in case.service.asked("GET", "/films"))


def test_the_images_go_along_at_the_providers_size(real: Case) -> None:
    real.provider.create(real.request(), "key")
    (task,) = real.service.tasks.values()
    given = task.body.get("promptImage")
    uris = (
        [each["uri"] for each in given]
        if isinstance(given, list)
        else [task.body["image_url"], task.body["tail_image_url"]]
    )
    asked = real.request().parameters
    size = (asked.width, asked.height)
    assert size in real.engine.spec.sizes
    for uri in uris:
        kind, _, body = uri.removeprefix("data:image/").partition(";base64,")
        with PIL.Image.open(io.BytesIO(base64.b64decode(body))) as image:
            assert (image.format, image.size) == (kind.upper(), size)
        assert len(uri) <= 5_000_000
    assert uris[0] != uris[1]


def test_an_image_that_is_too_long_as_png_goes_as_jpeg() -> None:
    from worker.engines.remote.hosted.image import data_uri

    noise = np.random.default_rng(1).integers(0, 255, (720, 1280, 3), np.uint8)
    assert data_uri(noise, max_chars=4_000_000).startswith("data:image/png;base64,")
    small = data_uri(noise, max_chars=1_500_000)
    assert small.startswith("data:image/jpeg;base64,")
    assert len(small) <= 1_500_000
    with pytest.raises(RequestRefused):
        data_uri(noise, max_chars=1000)


@pytest.mark.parametrize(
    ("reply", "is_refusal"),
    [
        (Reply(429, {"error": "slow down"}, {"Retry-After": "7"}), True),
        (Reply(500, {"error": "sorry"}), False),
        (Reply(504, b"<html>"), False),
        (Reply(408, {"error": "too slow"}), True),
        (Reply(409, {"error": "not now"}), True),
        (LOST, False),
        (CUT, False),
        (Reply(200, {"nothing": 1}), False),
        (Reply(200, b"no json"), False),
        (Reply(200, b"["), False),
        (Reply(200, b"[" * 50_000 + b"]" * 50_000), False),
        (Reply(200, [1]), False),
        (Reply(200, b'{"id": "a\\u0000b", "request_id": "\\ud800"}'), False),
        (Reply(200, {"id": KEY + "/", "request_id": f"x{KEY}"}), False),
        (Reply(200, bytes(400_000)), False),
        (Reply(200, b"{}", {"Content-Encoding": "gzip"}), False),
    ],
    ids=named,
)
def test_a_create_says_whether_a_task_may_exist(
    case: Case, reply: Reply, is_refusal: bool
) -> None:
    case.service.at_create.append(reply)
    with pytest.raises(Away) as caught:
        case.provider.create(case.request(), "key")
    assert caught.value.is_refusal is is_refusal
    assert caught.value.retry_after_seconds == (7 if reply.status == 429 else None)
    assert len(case.service.asked("POST")) == 1, "nothing is sent twice"


def test_a_provider_whose_certificate_is_not_trusted_is_told_nothing(case: Case) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with type(case.service)(FILM, tls=context) as strange:
        provider = provider_of(engine_at(case.kind, strange.url))
        with pytest.raises(Away, match="certificate") as caught:
            provider.create(case.request(), "key")
        assert caught.value.is_refusal, "no task was made"
        with pytest.raises(Away):
            provider.look("t")
        assert strange.heard == []


def test_where_nobody_listens_no_task_was_made(case: Case) -> None:
    engine = engine_at(case.kind, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Away) as caught:
        provider_of(engine).create(case.request(), "key")
    assert caught.value.is_refusal


@pytest.mark.parametrize(
    "reply",
    [
        Reply(401, {"error": f"no such key {KEY}"}),
        Reply(403, {"detail": f"no such key {KEY}"}),
        Reply(400, {"error": "You do not have enough credits to run this task."}),
    ],
    ids=["401", "403", "no-money"],
)
def test_a_bad_key_is_told_to_the_operator_and_never_shown(case: Case, reply: Reply) -> None:
    case.service.at_create.append(reply)
    with structlog.testing.capture_logs() as logs, pytest.raises(NotServed) as caught:
        case.provider.create(case.request(), "key")
    assert (caught.value.code, caught.value.retryable) == ("remote_unavailable", False)
    (line,) = [each for each in logs if each["event"] == "provider_refused_the_operator"]
    assert line["status"] == reply.status
    case.service.at_look.append(Reply(401, {"error": KEY}))
    with pytest.raises(KeyRefused) as later:
        case.provider.look("t")
    for said in (str(logs), str(caught.value), str(later.value)):
        assert KEY not in said


def test_a_new_key_in_its_file_is_taken_when_the_old_one_is_refused(
    case: Case, tmp_path: Path
) -> None:
    old, file = "planted-key-that-was-before", tmp_path / "key"
    file.write_text(old)
    key = {f"{case.kind}_key": None, f"{case.kind}_key_file": file}
    provider = provider_of(engine_at(case.kind, case.service.url, **key))
    provider._model = SMALL[case.kind]  # type: ignore[attr-defined]
    with pytest.raises(NotServed):
        provider.create(case.request(), "key")
    with pytest.raises(KeyRefused):
        provider.look("t")
    assert not case.service.tasks
    file.write_text(f"{KEY}\n")
    task = provider.create(case.request(), "key").task
    assert list(case.service.tasks) == [task], "bought once"
    assert provider.look(task).state is TaskState.WAITING
    words = f"{old} and {KEY} are no keys"
    case.service.at_create.append(Reply(400, {"error": words, "detail": words}))
    with pytest.raises(RequestRefused, match="… and … are no keys"):
        provider.create(case.request(), "key")
    file.unlink()
    case.service.at_look.append(Reply(401, {"error": KEY}))
    with pytest.raises(KeyRefused):
        provider.look(task)


NO_STATUS: tuple[Any, ...] = ("DREAMING", 7, None, ["RUNNING"], {})
MODERATION = {
    "runway": (
        *("SAFETY", "SAFETY.INPUT.IMAGE", "SAFETY.OUTPUT.VIDEO"),
        *("INPUT_PREPROCESSING.SAFETY.TEXT", "INPUT_PREPROCESSING.SAFETY.THIRD_PARTY"),
    ),
    "fal": ("content_policy_violation", "no_media_generated"),
}


def test_moderation_is_told_from_other_failures(case: Case) -> None:
    for code in MODERATION[case.kind]:
        case.service.failure = code
        _, look = case.finished()
        assert look.state is TaskState.FAILED
        assert isinstance(look.error, ContentRefused), code
        assert not look.error.retryable
    case.service.failure = "INTERNAL.BAD_OUTPUT.CODE01"
    _, look = case.finished()
    assert isinstance(look.error, TaskFailed | RequestRefused)
    assert "INTERNAL.BAD_OUTPUT" in str(look.error)


def test_a_refused_request_is_told_in_the_providers_words(case: Case) -> None:
    words = f"the ratio\nis {KEY} " + "x" * 500
    case.service.at_create.append(Reply(400, {"error": words, "detail": words}))
    with pytest.raises(RequestRefused, match="the ratio is") as caught:
        case.provider.create(case.request(), "key")
    assert len(str(caught.value)) < 300
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(504, {"detail": f"late {KEY}", "error_type": "request_timeout"}), TaskFailed),
        (Reply(503, {"detail": "gone", "error_type": "runner_disconnected"}), TaskFailed),
        (Reply(500, {"detail": [{"type": "internal_server_error", "msg": "no"}]}), TaskFailed),
        (Reply(422, [{"type": "content_policy_violation", "loc": ["body"]}]), ContentRefused),
        (Reply(422, {"detail": [{"type": "image_too_large", "msg": "no"}]}), RequestRefused),
        (Reply(400, {"detail": "no"}), RequestRefused),
    ],
    ids=named,
)
def test_a_result_that_is_an_error_is_the_requests_whatever_its_status(
    fal: Case, reply: Reply, error: type[Exception]
) -> None:
    """fal keeps the failure of a model or its runner as the result, so waiting does not help."""
    fal.service.at_result.append(reply)
    _, look = fal.finished()
    assert look.state is TaskState.FAILED
    assert isinstance(look.error, error)
    assert KEY not in str(look.error)


@pytest.mark.parametrize(
    "reply", [Reply(503, b"<html>"), Reply(500, {}), Reply(429, {})], ids=named
)
def test_a_result_that_is_not_answered_now_is_asked_for_again(fal: Case, reply: Reply) -> None:
    task = fal.provider.create(fal.request(), "key").task
    fal.service.looks_needed = 1
    fal.service.at_result.append(reply)
    with pytest.raises(Away):
        fal.provider.look(task)
    assert fal.provider.look(task).state is TaskState.DONE


def test_what_a_task_has_cost_is_told_by_runway() -> None:
    with RunwayService(FILM) as service:
        engine = engine_at("runway", service.url)
        case = Case(EngineKind.RUNWAY, service, engine, provider_of(engine))
        _, look = case.finished()
        assert look.facts == {"cost_usd": 0.25}
        service.failure = "SAFETY.INPUT.TEXT"
        _, look = case.finished()
        assert look.facts == {"cost_usd": 0.0}


def test_a_task_that_nobody_knows_has_vanished(case: Case) -> None:
    for act in (case.provider.look, case.provider.cancel):
        with pytest.raises(TaskVanished):
            act("nothing-here")


def test_a_cancel_reaches_the_provider_and_may_still_cost(case: Case) -> None:
    task = case.provider.create(case.request(), "key").task
    assert case.provider.cancel(task) is True
    assert case.service.tasks[task].is_canceled


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_look_that_says_nothing_is_asked_again(case: Case, status: int) -> None:
    task = case.provider.create(case.request(), "key").task
    case.service.at_look.append(Reply(status, {}, {"Retry-After": "3"}))
    with pytest.raises(Away) as caught:
        case.provider.look(task)
    assert caught.value.retry_after_seconds == 3


@pytest.mark.parametrize(
    "reply",
    [
        *(Reply(200, {"status": status}) for status in NO_STATUS),
        Reply(200, {"status": "SUCCEEDED", "output": []}),
        Reply(200, {"status": "SUCCEEDED", "output": None}),
        Reply(200, {"status": "SUCCEEDED"}),
        *(Reply(200, content) for content in (b"", b"nothing", b"[]", b'"RUNNING"', b"\xff")),
        Reply(200, b"[" * 50_000 + b"]" * 50_000),
        cut(Reply(200, {"status": "RUNNING"})),
        LOST,
        Reply(204),
        Reply(408, {}),
        Reply(418, {"error": "teapot"}),
    ],
    ids=named,
)
def test_a_look_that_cannot_be_read_says_nothing(case: Case, reply: Reply) -> None:
    task = case.provider.create(case.request(), "key").task
    case.service.at_look.append(reply)
    with pytest.raises(Away):
        case.provider.look(task)
    case.service.looks_needed = 1
    assert case.provider.look(task).state is TaskState.DONE


def test_a_retry_after_may_be_a_date_and_counts_for_an_hour_at_most(case: Case) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    for told, most in ((soon, 101), ("99999999", 3600), ("soon", None), ("-5", None)):
        case.service.at_look.append(Reply(503, {}, {"Retry-After": told}))
        with pytest.raises(Away) as caught:
            case.provider.look("t")
        found = caught.value.retry_after_seconds
        assert found is None if most is None else found is not None and most - 30 <= found <= most


def test_a_provider_that_redirects_is_not_followed_with_the_key(case: Case) -> None:
    with RunwayService(FILM) as other:
        case.service.at_create.append(
            Reply(307, b"", {"Location": f"{other.url}/v1/image_to_video"})
        )
        with pytest.raises(NotServed, match="is not where it is asked"):
            case.provider.create(case.request(), "key")
        task = case.provider.create(case.request(), "key").task
        for act, planned in (
            (case.provider.look, case.service.at_look),
            (case.provider.cancel, case.service.at_cancel),
        ):
            planned.append(Reply(302, b"", {"Location": f"{other.url}/v1/tasks/{task}"}))
            with pytest.raises(Away):
                act(task)
        assert other.heard == []


def test_the_spec_says_where_the_image_goes_and_what_it_costs(case: Case) -> None:
    spec = case.engine.spec
    assert spec.ai_generated
    assert spec.hosted is not None
    assert spec.hosted.model == TARGETS[case.kind].partition("?")[0]
    assert re.search(r"image and the prompt are sent", spec.description)
    settled = case.request(seconds=8).parameters
    assert (settled.width, settled.height) in spec.sizes
    assert settled.resolution is None
    assert settled.seconds in {8.0, 10.0}
    assert spec.hosted.price_micros(settled.seconds) == round(
        settled.seconds * spec.hosted.usd_per_second * 1_000_000
    )
    plan = case.engine.plan(case.request(seconds=8))
    assert (plan["provider"], plan["remote_model"]) == (spec.hosted.provider, spec.hosted.model)
    assert plan["price_usd"] == pytest.approx(settled.seconds * spec.hosted.usd_per_second)
