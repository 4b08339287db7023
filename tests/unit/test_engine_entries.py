"""One place reads the ENGINES setting, and says what it cannot read."""

import json

import pytest

from shared.engines.entries import EngineEntry, EngineKind, parse_engines
from shared.errors import InvalidRequest
from worker.supervisor.worker_config import CONFIG_VARIABLE, WorkerConfig

KNOWN = ("camera", "wan")
SERVER = "fast=openai-videos:http://10.0.0.7:8000/v1?model=wan"
OTHER = "fast=openai-videos:https://b.example/v1?model=w%2Cx"


def entry(name: str, kind: EngineKind, *targets: str) -> EngineEntry:
    return EngineEntry(name, kind, targets)


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ("camera", [entry("camera", EngineKind.BUILT_IN, "camera")]),
        (
            " wan ,camera,",
            [
                entry("wan", EngineKind.BUILT_IN, "wan"),
                entry("camera", EngineKind.BUILT_IN, "camera"),
            ],
        ),
        ("fade = a.b:Fade", [entry("fade", EngineKind.OWN, "a.b:Fade")]),
        ("camera=mine:Camera", [entry("camera", EngineKind.OWN, "mine:Camera")]),
        ("ltx=diffusers:/m/ltx", [entry("ltx", EngineKind.DIFFUSERS, "/m/ltx")]),
        ("ltx=diffusers:/m/a%2Cb", [entry("ltx", EngineKind.DIFFUSERS, "/m/a,b")]),
        (
            SERVER,
            [entry("fast", EngineKind.OPENAI_VIDEOS, "http://10.0.0.7:8000/v1?model=wan")],
        ),
        (
            f"{SERVER},camera,{OTHER}",
            [
                entry(
                    "fast",
                    EngineKind.OPENAI_VIDEOS,
                    "http://10.0.0.7:8000/v1?model=wan",
                    "https://b.example/v1?model=w%2Cx",
                ),
                entry("camera", EngineKind.BUILT_IN, "camera"),
            ],
        ),
    ],
)
def test_each_form_of_an_entry_is_read(setting: str, found: list[EngineEntry]) -> None:
    assert list(parse_engines(setting, KNOWN)) == found


FORM = "write name=module:Class for your own, name=diffusers:/folder"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("", ["is empty; try auto, or camera"]),
        (" , ", ["is empty; try auto, or camera"]),
        ("sora", ["names 'sora'; known are camera, wan", FORM]),
        ("diffusers", ["names 'diffusers'; known are camera, wan", FORM]),
        ("auto,camera", ["auto stands alone"]),
        ("x=", ["names 'x='", FORM]),
        ("x=wan", ["names 'x=wan'", FORM]),
        ("x=:X", ["names 'x=:X'", FORM]),
        ("x=mod:", ["names 'x=mod:'", FORM]),
        ("x=http://10.0.0.7/v1", ["names 'x=http://10.0.0.7/v1'", "name=openai-videos:http://"]),
        ("x=sglang:http://h/v1?model=m", ["cannot be read", "name=openai-videos:http://"]),
        ("=a:B", ["'' is no name"]),
        ("a b=a:B", ["'a b' is no name", "letters, digits"]),
        ("a/b=a:B", ["'a/b' is no name"]),
        (f"{'a' * 65}=a:B", ["is no name", "up to 64"]),
        ("x=diffusers:", ["names 'x=diffusers:'", "ltx=diffusers:/models/ltx"]),
        ("x=diffusers:models/x", ["not absolute", "ltx=diffusers:/models/ltx"]),
        ("x=openai-videos:", ["is not http(s)://host:port", "openai-videos:http://10.0.0.7"]),
        ("x=openai-videos:10.0.0.7:8000", ["is not http(s)://host:port"]),
        ("x=openai-videos:ftp://h/v1?model=m", ["is not http(s)://host:port"]),
        ("x=openai-videos:http:///v1?model=m", ["is not http(s)://host:port"]),
        ("x=openai-videos:http://h:99999/v1?model=m", ["names x", "no host and port"]),
        ("x=openai-videos:http://h:no/v1?model=m", ["names x", "no host and port"]),
        ("x=openai-videos:http://h/v1", ["does not name one model", "?model="]),
        ("x=openai-videos:http://h/v1?model=", ["does not name one model"]),
        ("x=openai-videos:http://h/v1?model=a&model=b", ["does not name one model"]),
        ("x=openai-videos:http://h/v1?model=m#f", ["a blank or a #"]),
        ("x=openai-videos:http://h/v 1?model=m", ["a blank or a #"]),
        ("camera,camera", ["names camera twice in the same way"]),
        ("x=a:B,x=a:C", ["names x twice", "another name"]),
        (f"{SERVER},{SERVER}", ["names fast twice in the same way"]),
        (f"{SERVER},fast=diffusers:/m", ["names fast twice", "another name"]),
    ],
)
def test_an_entry_that_cannot_be_read_is_named_with_what_would_be_right(
    setting: str, words: list[str]
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_engines(setting, KNOWN)
    assert refused.value.param == "ENGINES"
    assert refused.value.message.startswith("STILLREEL_ENGINES ")
    assert [word for word in words if word not in refused.value.message] == []


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidRequest, match="holds a user or a password") as refused:
        parse_engines("x=openai-videos:http://me:hunter2@h/v1?model=m", KNOWN)
    assert "hunter2" not in refused.value.message


def test_a_child_is_told_the_entries_as_they_were_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries = parse_engines(f"camera,{SERVER},{OTHER},ltx=diffusers:/m/ltx", KNOWN)
    config = WorkerConfig(
        worker="host-cpu0",
        heartbeat_path="",
        device="cpu",
        cuda_visible_devices="",
        device_name=None,
        vram_bytes=None,
        engines={each.name: each for each in entries},
    )
    told = config.to_environment()
    assert json.loads(told[CONFIG_VARIABLE])
    monkeypatch.setenv(CONFIG_VARIABLE, told[CONFIG_VARIABLE])
    assert WorkerConfig.from_environment() == config
