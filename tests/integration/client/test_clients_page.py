"""Every block of our part of docs/clients.md runs unchanged."""

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from stillreel import AsyncClient, Client
from stillreel.command.completion import walk
from stillreel.command.parser import make_parser
from tests.support.command import env
from tests.support.gateway import FakeWorker, Gateway, photo_png
from tests.support.stack import ROOT

PAGE = (ROOT / "docs" / "clients.md").read_text()
ADDRESS = "http://127.0.0.1:7860"
BLOCKS = re.findall(
    r"```(?:python|sh|js) (stillreel[\w-]*|curl|fetch|legacy)\n(.*?)```", PAGE, re.DOTALL
)
RUNS: dict[str, Callable[[str], list[str]]] = {
    "stillreel": lambda text: [sys.executable, "-c", text],
    "stillreel-async": lambda text: [sys.executable, "-c", text],
    "legacy": lambda text: [sys.executable, "-c", text],
    "curl": lambda text: ["sh", "-euc", text],
    "fetch": lambda text: ["node", "--input-type=module", "-e", text],
}


@pytest.fixture
def worker(fake_worker: FakeWorker) -> Iterator[FakeWorker]:
    """A worker that finishes every job."""
    is_over = threading.Event()

    def serve() -> None:
        while not is_over.wait(0.05):
            job = fake_worker.jobs.claim(["moves"], worker="hand")
            if job is not None:
                fake_worker.complete(job, b"an mp4 of " + job.parameters.prompt.encode())

    thread = threading.Thread(target=serve)
    thread.start()
    yield fake_worker
    is_over.set()
    thread.join(60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photo.jpg").write_bytes(photo_png())
    return tmp_path


def run(block: str, gateway: Gateway, folder: Path, argv: list[str]) -> str:
    """Run a block of the page, with this gateway's address in place of the page's."""
    bin_ = folder / "bin"
    bin_.mkdir()
    command = bin_ / "stillreel"  # pip writes such a file.
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m stillreel.command.main "$@"\n')
    command.chmod(0o755)
    path = f"{bin_}:{env('')['PATH']}"
    told = subprocess.run(
        [word.replace(ADDRESS, gateway.url) for word in argv],
        cwd=folder,
        env=env(gateway.url, PATH=path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert told.returncode == 0, f"{block}: {told.stderr}"
    return told.stdout


def test_the_page_has_the_blocks_that_are_run() -> None:
    names = [name for name, _ in BLOCKS]
    assert sorted(names) == sorted([*RUNS, "stillreel", "stillreel-batch"])


@pytest.mark.parametrize(
    ("name", "text"), [b for b in BLOCKS if b[0] in RUNS and b[0] != "legacy"]
)
def test_a_block_makes_a_clip_of_the_photo(
    gateway: Gateway, worker: FakeWorker, folder: Path, name: str, text: str
) -> None:
    is_command = name == "stillreel" and text.startswith("stillreel ")
    argv = ["sh", "-euc", text] if is_command else RUNS[name](text)
    run(name, gateway, folder, argv)
    assert (folder / "clip.mp4").read_bytes() == b"an mp4 of slow push in"
    (job,) = gateway.get("/v1/jobs").json()["data"]
    assert job["status"] == "succeeded"


def test_the_batch_of_the_page_makes_a_clip_of_each_photo(
    gateway: Gateway, worker: FakeWorker, folder: Path
) -> None:
    (folder / "photos").mkdir()
    for name in ("a.jpg", "b.jpg", "c.txt"):
        shutil.copy(folder / "photo.jpg", folder / "photos" / name)
    text = dict(BLOCKS)["stillreel-batch"]
    run("batch", gateway, folder, ["sh", "-euc", text])
    assert {path.name for path in (folder / "photos" / "clips").glob("*.mp4")} == {
        "a.mp4",
        "b.mp4",
    }


def test_the_folder_script_that_came_before_works_as_it_is(
    gateway: Gateway, worker: FakeWorker, folder: Path
) -> None:
    (folder / "images").mkdir()
    for name in ("1.png", "2.jpg", "notes.txt"):
        shutil.copy(folder / "photo.jpg", folder / "images" / name)
    told = run("legacy", gateway, folder, RUNS["legacy"](dict(BLOCKS)["legacy"]))
    lines = [line.split(" -> ") for line in told.splitlines()]
    assert [name for name, _ in lines] == ["1.png", "2.jpg"]
    for _, path in lines:
        clip = requests.get(f"{gateway.url}/{path}", timeout=30)
        assert clip.content == b"an mp4 of slow push in"


def test_every_command_and_call_that_the_page_names_is_there() -> None:
    ours = PAGE.partition("## Our own client and command")[2].partition("\n## ")[0]
    calls = re.findall(r"`(\w+)\([^`]*\)`", ours)
    assert len(calls) > 15
    for kind in (Client, AsyncClient):
        assert [name for name in calls if not hasattr(kind, name)] == []
    helps = "".join(command.format_help() for _, command in walk(make_parser()))
    assert set(re.findall(r"--[a-z][a-z-]+", ours)) <= set(re.findall(r"--[a-z][a-z-]+", helps))
