"""How a worker checks a hosted model's entry before it starts, and what each model takes."""

import traceback
from pathlib import Path
from typing import Any

import pytest

from shared.engines.entries import EngineKind, parse_engines
from shared.engines.parameters import RenderParameters, RequestedParameters, resolve_parameters
from shared.engines.spec import EngineSpec
from shared.errors import InvalidRequest
from shared.settings import Settings
from worker.engines.remote.fal import wire as fal_wire
from worker.engines.remote.fal.models import MODELS as FAL_MODELS
from worker.engines.remote.hosted.key import read_key
from worker.engines.remote.hosted.model import HostedModel, cut_prompt
from worker.engines.remote.hosted.offer import CATALOGUES, HostedOffer, check_offer, read_offer
from worker.engines.remote.hosted.spec import spec_of
from worker.engines.remote.runway import wire as runway_wire
from worker.engines.remote.runway.models import MODELS as RUNWAY_MODELS
from worker.supervisor.places import find_worker_configs

KEY = "planted-provider-key-5d0c7e21"
GEN4 = "gen4=runway:gen4_turbo?usd_per_second=0.05"
EVERY = [(kind, model) for kind in CATALOGUES for model in CATALOGUES[kind].values()]


def check(setting: str, **settings: Any) -> None:
    (entry,) = parse_engines(setting, ["camera"])
    check_offer(entry, Settings(_env_file=None, **settings))


def test_an_entry_with_key_price_and_consent_is_right(tmp_path: Path) -> None:
    check(GEN4, runway_key=KEY, send_images_to="runway")
    (tmp_path / "key").write_text(f"{KEY}\n")
    check(GEN4, runway_key_file=tmp_path / "key", send_images_to="fal,runway")
    check("pika=fal:fal-ai/pika/v2.2/image-to-video?usd_per_second=0.04", fal_key=KEY,
          send_images_to="fal")  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "settings", "named"),
    [
        (GEN4, {"send_images_to": "runway"}, "STILLREEL_RUNWAY_KEY_FILE name none"),
        (GEN4, {"runway_key": ""}, "name none"),
        (GEN4, {"runway_key": KEY}, "STILLREEL_SEND_IMAGES_TO=runway"),
        (GEN4, {"runway_key": KEY, "send_images_to": "fal"}, "STILLREEL_SEND_IMAGES_TO=runway"),
        (GEN4, {"runway_key": f"{KEY} x"}, "visible ASCII"),
        (GEN4, {"runway_key": " "}, "STILLREEL_RUNWAY_KEY has nothing in it"),
        (GEN4, {"runway_key": KEY, "runway_key_file": "/none"}, "both name a key"),
        (GEN4, {"runway_key_file": "/none"}, "could not be read"),
        ("gen4=runway:gen5?usd_per_second=1", {}, "gen4_turbo, gen4.5"),
        ("gen4=runway:gen4_turbo?usd=1", {}, "usd_per_second"),
        ("gen4=runway:gen4_turbo?usd_per_second=", {}, "is not a number"),
        ("gen4=runway:gen4_turbo?usd_per_second=-1", {}, "is not a number"),
        ("gen4=runway:gen4_turbo?usd_per_second=nan", {}, "is not a number"),
        ("gen4=runway:gen4_turbo?usd_per_second=1&usd_per_second=2", {}, "once"),
    ],
)
def test_what_is_missing_is_named_and_no_key_is_shown(
    setting: str, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check(setting, **settings)
    assert named in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [f"{KEY}\n", f"{KEY}\r\n", f"\ufeff{KEY}\n", f"  {KEY}  ", f"\n{KEY}\n\n"],
    ids=["newline", "windows", "mark", "spaces", "lines"],
)
def test_a_key_file_may_be_written_by_any_editor(content: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(content.encode())
    settings = Settings(_env_file=None, runway_key_file=tmp_path / "key")
    assert read_key(EngineKind.RUNWAY, settings) == KEY


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "nothing in it"),
        (b"\n", "nothing in it"),
        ("\ufeff".encode(), "nothing in it"),
        (b"short", "no key in it"),
        (f"{KEY}\n{KEY}".encode(), "in one line"),
        (f"KEY={KEY} x".encode(), "no key in it"),
        (f"{KEY}é".encode(), "no key in it"),
        (KEY.encode("utf-16"), "could not be read"),
        (KEY.encode() + b"\xff", "could not be read"),
        (KEY.encode() * 500, "no key in it"),
        (None, "IsADirectoryError"),
    ],
    ids=[
        "empty",
        "newline",
        "mark",
        "short",
        "two",
        "setting",
        "é",
        "utf-16",
        "ff",
        "long",
        "folder",
    ],
)
def test_a_key_file_that_is_none_is_named_and_not_shown(
    content: bytes | None, named: str, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=f"STILLREEL_RUNWAY_KEY_FILE.*{named}") as caught:
        check(GEN4, runway_key_file=path, send_images_to="runway")
    shown = "".join(traceback.format_exception(caught.value))
    assert KEY[:12] not in shown
    assert caught.value.param == "RUNWAY_KEY_FILE"


@pytest.mark.parametrize(
    "setting", ["gen4=runway:", "gen4=runway:gen4_turbo", "gen4=runway:gen4 turbo?x=1"]
)
def test_an_entry_that_cannot_be_read_says_how_one_is_written(setting: str) -> None:
    with pytest.raises(InvalidRequest, match=r"gen4=runway:gen4_turbo\?usd_per_second=0\.05"):
        parse_engines(setting, ["camera"])


def test_a_worker_starts_with_a_hosted_model_or_says_what_is_missing(tmp_path: Path) -> None:
    named: dict[str, Any] = {"_env_file": None, "gpus": "none", "engines": GEN4, "runway_key": KEY}
    with pytest.raises(InvalidRequest, match="STILLREEL_SEND_IMAGES_TO=runway"):
        find_worker_configs(Settings(**named), tmp_path)
    settings = Settings(**named, send_images_to="runway")
    (config,) = find_worker_configs(settings, tmp_path)
    assert (config.worker.endswith("-remote"), config.places) == (True, settings.remote_jobs)
    assert KEY not in str(config.to_environment())


def test_an_unknown_provider_is_no_setting() -> None:
    with pytest.raises(ValueError, match="is no provider"):
        Settings(_env_file=None, send_images_to="pika")


def spec(kind: EngineKind, model: HostedModel) -> EngineSpec:
    offer = HostedOffer("hosted", model.name, 0.05)
    return spec_of(offer, model, provider=kind, terms="https://example.org")


def settled(kind: EngineKind, model: HostedModel, **asked: Any) -> RenderParameters:
    fields = RequestedParameters(prompt="the tide", negative_prompt="text", **asked)
    return resolve_parameters(
        spec(kind, model), fields, seed=7, image_width=900, image_height=1600
    )


def body(kind: EngineKind, model: HostedModel, asked: RenderParameters) -> dict[str, Any]:
    if kind is EngineKind.RUNWAY:
        return runway_wire.create_body(model, asked, first="data:a", last=None)
    return fal_wire.create_body(FAL_MODELS[model.name], asked, first="data:a", last="data:b")


@pytest.mark.parametrize(("kind", "model"), EVERY, ids=lambda it: getattr(it, "name", it))
def test_every_length_and_shape_of_a_model_can_be_asked_for(
    kind: EngineKind, model: HostedModel
) -> None:
    for seconds in model.seconds:
        asked = settled(kind, model, seconds=seconds)
        assert asked.seconds == seconds
        told = body(kind, model, asked)
        if "num_frames" in told:
            assert told["num_frames"] == seconds * model.fps + 1
        else:
            assert told["duration"] in (seconds, str(seconds))
        assert (told.get("seed") == 7) is model.takes_seed
    for width, height in model.sizes:
        asked = settled(kind, model, width=width, height=height)
        assert (asked.width, asked.height) == (width, height)
        if kind is EngineKind.RUNWAY:
            assert body(kind, model, asked)["ratio"] == f"{width}:{height}"
    portrait = settled(kind, model)
    assert portrait.height > portrait.width
    with pytest.raises(InvalidRequest, match=r"makes no clip of 512 x 512; it makes"):
        settled(kind, model, width=512, height=512)


def test_the_same_aspect_is_chosen_whatever_resolution_is_asked() -> None:
    asked = settled(EngineKind.RUNWAY, RUNWAY_MODELS["gen4_turbo"], resolution="256p")
    assert (asked.width, asked.height, asked.resolution) == (720, 1280, None)


def test_a_prompt_is_cut_in_units_of_utf16_and_no_letter_in_two() -> None:
    assert cut_prompt("ab😀cd", 3) == "ab"
    assert cut_prompt("ab😀cd", 4) == "ab😀"
    assert cut_prompt("ab", 10) == "ab"


def test_a_price_is_read_as_it_is_written() -> None:
    (entry,) = parse_engines(GEN4, ["camera"])
    assert read_offer(entry) == HostedOffer("gen4", "gen4_turbo", 0.05)


def test_requests_of_an_app_are_looked_at_below_its_first_names() -> None:
    path = fal_wire.request_path("fal-ai/pika/v2.2/image-to-video", "r1")
    assert path == "/fal-ai/pika/requests/r1"
    assert fal_wire.request_path("workflows/me/mine/x", "r1") == "/workflows/me/mine/requests/r1"


@pytest.mark.parametrize("task_id", ["../../v1/other", "", 7, "a/b", "x" * 101])
def test_an_id_that_would_lead_elsewhere_is_none(task_id: Any) -> None:
    for read, name in ((runway_wire.read_id, "id"), (fal_wire.read_request_id, "request_id")):
        with pytest.raises((TypeError, ValueError)):
            read({name: task_id})


@pytest.mark.parametrize(
    ("told", "usd"),
    [
        ({"credits": 25}, 0.25),
        ({"credits": 0}, 0.0),
        ({"credits": 2.5}, 0.025),
        *((wrong, None) for wrong in (None, {}, {"credits": None}, {"credits": "25"}, 25)),
        *(({"credits": wrong}, None) for wrong in (-1, True, float("nan"), float("inf"))),
    ],
)
def test_a_cost_is_a_number_of_credits_or_nothing(told: Any, usd: float | None) -> None:
    assert runway_wire.cost_usd(told) == usd


@pytest.mark.parametrize("progress", [None, "half", -1, 2, float("nan"), True])
def test_a_progress_that_is_none_is_none(progress: Any) -> None:
    seen = runway_wire.read_task({"status": "RUNNING", "progress": progress})
    assert seen.progress in (None, 1.0)
    assert runway_wire.read_task({"status": "RUNNING", "progress": 0.5}).progress == 0.5
