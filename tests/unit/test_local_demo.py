"""`make demo` against a service that answers as the API does."""

from pathlib import Path
from typing import Any

import httpx2
import pytest
from rich.console import Console

from local import demo
from local.cli_settings import read_settings
from local.demo import DemoFailed, find_gateway, make_clip
from local.state import State

JOB = {"id": "job_1", "stage": None, "progress": {"percent": 0}, "error": None}


def client_of(*answers: httpx2.Response) -> httpx2.Client:
    """Return a client that gets these answers one after another."""
    left = iter(answers)
    return httpx2.Client(
        base_url="http://stillreel.test", transport=httpx2.MockTransport(lambda _: next(left))
    )


def job(status: str, code: int = 200, **more: Any) -> httpx2.Response:
    return httpx2.Response(code, json={**JOB, "status": status, **more}, headers={"ETag": status})


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(b"a photo")
    return tmp_path / "photo.jpg"


def test_the_clip_is_kept_in_outputs_under_the_jobs_id(photo: Path) -> None:
    client = client_of(
        job("queued", 202),
        job("running", stage="denoising"),
        httpx2.Response(304),
        job("succeeded"),
        httpx2.Response(200, content=b"a clip"),
    )
    clip = make_clip(client, photo, "still", Console(quiet=True))
    assert clip == Path("outputs/job_1.mp4")
    assert clip.read_bytes() == b"a clip"


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        (
            [job("queued", 202), job("failed", error={"message": "the image is torn"})],
            "the job failed: the image is torn",
        ),
        ([httpx2.Response(429, json={"detail": "the queue is full"})], "the queue is full"),
        ([httpx2.Response(401, json={"detail": "no key"})], "give it one: KEY=sr_… make demo"),
        ([httpx2.Response(404, text="<html>")], "answered 404, and not in JSON"),
    ],
)
def test_what_goes_wrong_is_said_in_one_sentence(
    photo: Path, answers: list[httpx2.Response], sentence: str
) -> None:
    with pytest.raises(DemoFailed, match=sentence):
        make_clip(client_of(*answers), photo, "still", Console(quiet=True))


def test_a_clip_that_cannot_be_kept_is_said_with_its_place(photo: Path) -> None:
    Path("outputs").write_text("a file in place of the folder")
    client = client_of(job("queued", 202), job("succeeded"), httpx2.Response(200, content=b"clip"))
    with pytest.raises(DemoFailed, match=r"could not be kept as /.*/job_1\.mp4 \(File exists\);"):
        make_clip(client, photo, "still", Console(quiet=True))


@pytest.mark.parametrize(
    ("named", "address"),
    [({}, "http://127.0.0.1:7961"), ({"PORT": "7962"}, "http://127.0.0.1:7962")],
    ids=["of itself", "unless PORT is given"],
)
def test_it_finds_the_service_that_was_started_on_another_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: dict[str, str], address: str
) -> None:
    monkeypatch.delenv("PORT", raising=False)
    monkeypatch.setenv("HOST", "a-machine")  # Some shells export the machine's name.
    monkeypatch.setenv("STILLREEL_DATA_DIR", str(tmp_path))
    assert find_gateway(read_settings()) == "http://127.0.0.1:7860"
    State(gateway="http://127.0.0.1:7961").save(tmp_path)
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    assert find_gateway(read_settings()) == address


def test_a_service_that_is_not_running_is_said_with_the_way_to_start_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", "1")
    assert demo.main() == 1
    assert capsys.readouterr().out.splitlines()[-1] == (
        "nothing answers at http://127.0.0.1:1; start it in another terminal: make run"
    )
