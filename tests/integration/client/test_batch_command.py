"""`stillreel batch` on a folder of twenty real photos, with a real worker."""

import json
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import skimage

from stillreel import Client
from stillreel.command.ledger import NAME
from tests.support.command import Terminal, argv, env, piped
from tests.support.gateway import Gateway, running_gateway
from tests.support.processes import crew, until
from tests.support.stack import Stack

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

PHOTOS = (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "chessboard_RGB.png"),
    *("clock_motion.png", "coffee.png", "coins.png", "color.png", "grass.png", "gravel.png"),
    *("horse.png", "hubble_deep_field.jpg", "ihc.png", "logo.png", "moon.png"),
    *("motorcycle_left.png", "motorcycle_right.png", "retina.jpg", "rocket.jpg"),
)
WORDS = ("batch", "photos", "--prompt", "slow push in", "--num-frames", "8", "--resolution")


@pytest.fixture(scope="module")
def service(module_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with one real worker, whose engine moves a camera."""
    with (
        crew(module_stack, tmp_path_factory.mktemp("logs")) as people,
        running_gateway(module_stack.settings()) as gateway,
    ):
        people.worker()
        until(lambda: gateway.get("/v1/models").json().get("data"), "the worker serves")
        yield gateway


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in PHOTOS:
        shutil.copy(Path(skimage.__file__).parent / "data" / name, photos)
    return tmp_path


def batch(service: Gateway, folder: Path, *more: str) -> tuple[int, list[dict[str, Any]]]:
    told = piped(service.url, *WORDS, "256p", *more, folder=folder)
    assert told.stdout, told.stderr
    return told.returncode, json.loads(told.stdout)


def clips(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "photos" / "clips").glob("*.mp4")}


def jobs_for(service: Gateway, prompt: str) -> int:
    with Client(service.url) as client:
        return sum(job.input["prompt"] == prompt for job in client.jobs())


@pytest.mark.parametrize(
    "photos", [PHOTOS[:9], pytest.param(PHOTOS, marks=pytest.mark.extended)], ids=["few", "all"]
)
def test_a_batch_that_was_killed_is_gone_on_with_and_makes_no_job_twice(
    service: Gateway, folder: Path, photos: Sequence[str]
) -> None:
    for name in set(PHOTOS) - {*photos}:
        (folder / "photos" / name).unlink()
    before = jobs_for(service, "slow push in")
    with subprocess.Popen(
        argv(*WORDS, "256p"),
        cwd=folder,
        env=env(service.url),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as first:
        until(lambda: len(clips(folder)) > len(photos) // 4, "some clips are there")
        first.send_signal(signal.SIGKILL)
    kept = clips(folder)
    assert len(photos) // 4 < len(kept) < len(photos)
    status, rows = batch(service, folder)
    assert status == 0
    assert [row["photo"] for row in rows] == list(photos)
    counts = Counter(row["status"] for row in rows)
    # A clip that was saved just before the kill may be missing from the ledger.
    assert len(kept) - 4 <= counts["skipped"] <= len(kept)
    assert counts["skipped"] + counts["succeeded"] == len(photos)
    assert len(clips(folder)) == len(photos)
    assert all(clips(folder)[name] == content for name, content in kept.items())
    assert jobs_for(service, "slow push in") - before == len(photos)
    status, rows = batch(service, folder)
    assert (status, {row["status"] for row in rows}) == (0, {"skipped"})
    assert jobs_for(service, "slow push in") - before == len(photos)


def test_a_bad_photo_fails_its_row_and_the_exit_status_and_is_tried_again(
    service: Gateway, folder: Path
) -> None:
    bad = folder / "photos" / "rocket.jpg"
    good = bad.read_bytes()
    bad.write_bytes(b"no photo at all")
    pick = ("--glob", "[cr]o*.*")
    status, rows = batch(service, folder, *pick)
    assert status == 1
    said = {row["photo"]: row["status"] for row in rows}
    assert said == {
        "coffee.png": "succeeded",
        "coins.png": "succeeded",
        "color.png": "succeeded",
        "rocket.jpg": "failed",
    }
    assert "image" in next(row["error"] for row in rows if row["photo"] == "rocket.jpg")
    bad.write_bytes(good)
    status, rows = batch(service, folder, *pick)
    assert status == 0
    assert Counter(row["status"] for row in rows) == {"skipped": 3, "succeeded": 1}


@pytest.mark.extended
def test_a_clip_that_is_not_this_batchs_own_is_not_replaced(
    service: Gateway, folder: Path
) -> None:
    pick = ("--glob", "coins.*")
    assert batch(service, folder, *pick)[0] == 0
    before = clips(folder)
    told = piped(service.url, *WORDS, "256p", *pick, "--fps", "12", folder=folder)
    assert told.returncode == 2
    assert "coins.mp4 would be replaced" in told.stderr
    assert clips(folder) == before
    assert batch(service, folder, *pick, "--fps", "12", "--replace")[0] == 0
    assert clips(folder) != before


@pytest.mark.extended
def test_a_clip_that_was_removed_comes_back_and_one_whose_job_was_deleted_is_made_anew(
    service: Gateway, folder: Path
) -> None:
    pick = ("--glob", "moon.*")
    _, (made,) = batch(service, folder, *pick)
    clip = folder / "photos" / "clips" / "moon.mp4"
    content = clip.read_bytes()
    clip.unlink()
    _, (again,) = batch(service, folder, *pick)
    assert (again["status"], again["job"]) == ("succeeded", made["job"])
    assert clip.read_bytes() == content
    clip.unlink()
    with Client(service.url) as client:
        client.delete(made["job"])
    _, (anew,) = batch(service, folder, *pick)
    assert anew["status"] == "succeeded"
    assert anew["job"] != made["job"]
    assert clip.exists()


def test_photos_of_one_name_have_clips_of_their_own(service: Gateway, folder: Path) -> None:
    shutil.copy(folder / "photos" / "rocket.jpg", folder / "photos" / "coins.jpg")
    assert batch(service, folder, "--glob", "coins.*")[0] == 0
    assert set(clips(folder)) == {"coins.jpg.mp4", "coins.png.mp4"}


@pytest.mark.extended
def test_on_a_terminal_there_is_a_table_and_ctrl_c_keeps_what_is_done(
    service: Gateway, folder: Path
) -> None:
    with Terminal(service.url, *WORDS, "512p", "--glob", "[a-c]*", folder=folder) as terminal:
        until(lambda: len(clips(folder)) > 1, "some clips are there")
        terminal.type("\x03")
        terminal.until("Cancel them? [y/N]")
        terminal.type("y\n")
        terminal.until("the same command continues from here")
        assert terminal.end() == 130
    assert "unfinished" in terminal.seen
    assert "succeeded" in terminal.seen
    ledger = (folder / "photos" / "clips" / NAME).read_text()
    assert ledger.count('"status": "succeeded"') > 1
    with Terminal(service.url, *WORDS, "512p", "--glob", "[a-c]*", folder=folder) as terminal:
        assert terminal.end() == 0
    assert "skipped" in terminal.seen
    assert len(clips(folder)) == 9


def test_a_service_that_is_away_is_told_of_before_anything_is_made(folder: Path) -> None:
    told = piped("http://127.0.0.1:9", *WORDS, "256p", folder=folder)
    assert told.returncode == 1
    assert "nothing answers at http://127.0.0.1:9" in told.stderr
    assert not (folder / "photos" / "clips").exists()
