"""Each answer of a provider, good or bad, in the words of the port: over real sockets."""

import base64
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import structlog

from shared.engines.entries import EngineEntry, EngineKind
from shared.engines.parameters import RequestedParameters, resolve_parameters
from shared.settings import Settings
from tests.support.ports import free_port
from tests.support.providers.fal import FalService
from tests.support.providers.runway import RunwayService
from tests.support.providers.service import ENDLESS, KEY, LOST, ProviderService, Reply
from worker.engines.base import RenderRequest
from worker.engines.remote.errors import (
    Away,
    ContentRefused,
    KeyRefused,
    RequestRefused,
    ResultGone,
    ResultUnusable,
    TaskFailed,
    TaskVanished,
)
from worker.engines.remote.fal.engine import FalEngine
from worker.engines.remote.hosted.api import NotServed
from worker.engines.remote.hosted.connect import films_of
from worker.engines.remote.hosted.film import fetch_film
from worker.engines.remote.provider import Look, Provider, TaskState
from worker.engines.remote.runway.engine import RunwayEngine

FILM = b"a film of some bytes"
PICTURE = np.full((96, 128, 3), (30, 90, 150), np.uint8)
PICTURE[:48] = 200
TARGETS = {
    "runway": "veo3.1?usd_per_second=0.2",
    "fal": "fal-ai/kling-video/v2.5-turbo/pro/image-to-video?usd_per_second=0.07",
}


@dataclass
class Case:
    """A provider of ours and the stand-in that it asks."""

    kind: EngineKind
    service: ProviderService
    engine: RunwayEngine | FalEngine
    provider: Provider

    def request(self, **asked: Any) -> RenderRequest:
        fields = RequestedParameters(prompt="the tide comes in", **asked)
        settled = resolve_parameters(
            self.engine.spec, fields, image_width=128, image_height=96, seed=7
        )
        return RenderRequest(PICTURE, settled, last_frame=PICTURE[::-1].copy())

    def finished(self) -> tuple[str, Look]:
        task = self.provider.create(self.request(), "key").task
        self.service.looks_needed = 1
        return task, self.provider.look(task)


def engine_at(kind: str, url: str, **settings: Any) -> RunwayEngine | FalEngine:
    entry = EngineEntry("hosted", EngineKind(kind), (TARGETS[kind],))
    values = {
        f"{kind}_key": KEY,
        f"{kind}_url": url,
        "send_images_to": kind,
        "outbound_allow": "127.0.0.0/8",
    }
    made = Settings(_env_file=None, **values | settings)
    return RunwayEngine(made, entry) if kind == "runway" else FalEngine(made, entry)


def provider_of(engine: RunwayEngine | FalEngine) -> Provider:
    return engine._roster.at(engine._roster.in_turn()[0].name)


@pytest.fixture(params=["runway", "fal"])
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    make: Callable[..., ProviderService] = (
        RunwayService if request.param == "runway" else FalService
    )
    with make(FILM) as service:
        engine = engine_at(request.param, service.url)
        yield Case(EngineKind(request.param), service, engine, provider_of(engine))


def unheard(received: int, total: int | None) -> None:
    pass


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
    # The link is the provider's store's: the key does not go there.
    assert all("authorization" not in each.headers for each in case.service.asked("GET", "/films"))


def test_the_pictures_go_along_at_the_providers_size(case: Case) -> None:
    case.provider.create(case.request(), "key")
    (task,) = case.service.tasks.values()
    given = task.body.get("promptImage")
    uris = (
        [each["uri"] for each in given]
        if isinstance(given, list)
        else [task.body["image_url"], task.body["tail_image_url"]]
    )
    asked = case.request().parameters
    size = (asked.width, asked.height)
    assert size in case.engine.spec.sizes
    for uri in uris:
        kind, _, body = uri.removeprefix("data:image/").partition(";base64,")
        with PIL.Image.open(io.BytesIO(base64.b64decode(body))) as image:
            assert (image.format, image.size) == (kind.upper(), size)
        assert len(uri) <= 5_000_000
    assert uris[0] != uris[1]


def test_a_picture_that_is_too_long_as_png_goes_as_jpeg() -> None:
    from worker.engines.remote.hosted.picture import data_uri

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
        (LOST, False),
        (Reply(200, {"nothing": 1}), False),
        (Reply(200, b"no json"), False),
    ],
    ids=["429", "500", "504", "lost", "no-id", "no-json"],
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


def test_moderation_is_told_from_other_failures(case: Case) -> None:
    case.service.failure = (
        "SAFETY.INPUT.IMAGE" if case.kind is EngineKind.RUNWAY else "content_policy_violation"
    )
    _, look = case.finished()
    assert look.state is TaskState.FAILED
    assert isinstance(look.error, ContentRefused)
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
    case.service.at_look.append(Reply(200, {"status": "DREAMING"}))
    with pytest.raises(Away):
        case.provider.look(task)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(403, b""), ResultGone),
        (Reply(404, b""), ResultGone),
        (Reply(200, b"<html>", {"Content-Type": "text/html"}), ResultUnusable),
        (Reply(302, b"", {"Location": "http://10.0.0.1/film"}), ResultUnusable),
        (Reply(503, b""), Away),
        (LOST, Away),
    ],
    ids=["expired", "gone", "html", "inward", "busy", "lost"],
)
def test_a_link_that_gives_no_film(
    case: Case, reply: Reply, error: type[Exception], tmp_path: Path
) -> None:
    task, look = case.finished()
    case.service.at_film.append(reply)
    with pytest.raises(error):
        case.provider.download(task, look, tmp_path / "film", unheard)


def test_a_film_without_end_or_too_large_is_cut(case: Case, tmp_path: Path) -> None:
    task, look = case.finished()
    films = films_of(Settings(_env_file=None, outbound_allow="127.0.0.0/8"), max_bytes=65_536)
    for reply in (ENDLESS, Reply(200, bytes(70_000), {"Content-Type": "video/mp4"})):
        case.service.at_film.append(reply)
        with pytest.raises(ResultUnusable, match="more than"):
            fetch_film(films, look.link or "", tmp_path / "film", unheard)
    assert (tmp_path / "film").stat().st_size <= 65_536
    assert task


def test_a_provider_that_redirects_is_not_followed_with_the_key(case: Case) -> None:
    with RunwayService(FILM) as other:
        case.service.at_create.append(
            Reply(307, b"", {"Location": f"{other.url}/v1/image_to_video"})
        )
        with pytest.raises(RequestRefused):
            case.provider.create(case.request(), "key")
        assert other.heard == []


def test_the_spec_says_where_the_picture_goes_and_what_it_costs(case: Case) -> None:
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
