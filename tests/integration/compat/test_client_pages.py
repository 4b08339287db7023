"""The lines of docs/clients.md run unchanged in the clients that they are for."""

import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.gateway import MOVES, FakeWorker, Gateway, photo_png
from tests.support.sdks import SDKS, done, installing, python_with
from tests.support.stack import ROOT

pytestmark = [pytest.mark.extended, pytest.mark.timeout(1200)]  # The first run installs the SDKs.

PAGE: Final = (ROOT / "docs" / "clients.md").read_text()
ADDRESS: Final = "http://127.0.0.1:7860"
MODEL: Final = "camera"
PYTHON: Final = {
    "openai 2": ("openai", "openai==2.54.0"),
    "openai 3": ("openai", "openai==3.57.0"),
    "litellm": ("litellm", "litellm==1.110.2"),
    "replicate": ("replicate", "replicate==1.0.7"),
}
JAVASCRIPT: Final = {
    "openai": "7.59.0",
    "replicate": "1.4.0",
    "@ai-sdk/replicate": "3.0.46",
    "ai": "7.0.173",
}


def block(language: str, name: str) -> str:
    """Return the lines of the page for a client."""
    found = re.findall(rf"```{language} {re.escape(name)}\n(.*?)```", PAGE, re.DOTALL)
    assert len(found) == 1, f"{language} {name}"
    return str(found[0])


def modules() -> Path:
    """Return the folder of the modules that the page's JavaScript imports."""
    folder = SDKS / "js"
    wanted = json.dumps({"private": True, "dependencies": JAVASCRIPT})
    with installing(folder, wanted) as is_missing:
        if is_missing:
            (folder / "package.json").write_text(wanted)
            npm = shutil.which("npm")
            assert npm is not None
            done([npm, "install", "--no-audit", "--no-fund", "--no-package-lock"], folder)
    return folder / "node_modules"


@pytest.fixture
def worker(fake_worker: FakeWorker) -> Iterator[FakeWorker]:
    """A worker that serves the page's model, and finishes every job."""
    fake_worker.offer(MOVES.model_copy(update={"name": MODEL}))
    over = threading.Event()

    def walk() -> None:
        while not over.is_set():
            job = fake_worker.jobs.claim([MODEL], worker="hand")
            if job is None:
                over.wait(0.05)
            else:
                fake_worker.complete(job, CLIP)

    thread = threading.Thread(target=walk)
    thread.start()
    yield fake_worker
    over.set()
    thread.join()


CLIP: Final = b"\x00\x00\x00\x18ftypmp42 and so on"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photo.jpg").write_bytes(photo_png())
    return tmp_path


@pytest.mark.parametrize("client", PYTHON)
def test_the_lines_for_python_make_a_clip(
    gateway: Gateway, worker: FakeWorker, folder: Path, client: str
) -> None:
    name, requirement = PYTHON[client]
    script = folder / "lines.py"
    script.write_text(block("python", name).replace(ADDRESS, gateway.url))
    # Without this setting the client would ask for its list of prices.
    done([python_with(requirement), str(script)], folder, LITELLM_LOCAL_MODEL_COST_MAP="True")
    assert (folder / "clip.mp4").read_bytes() == CLIP


def test_litellm_by_vllms_name_makes_a_clip(
    gateway: Gateway, worker: FakeWorker, folder: Path
) -> None:
    script = folder / "lines.py"
    lines = block("python", "litellm").replace(ADDRESS, gateway.url)
    more = "num_frames=12, fps=6, seed=5, negative_prompt='x', guidance_scale=7.0, "
    script.write_text(
        lines.replace("openai/camera", "hosted_vllm/camera").replace("prompt=", f"{more}prompt=")
    )
    python = python_with(PYTHON["litellm"][1])
    done([python, str(script)], folder, LITELLM_LOCAL_MODEL_COST_MAP="True")
    assert (folder / "clip.mp4").read_bytes() == CLIP
    (job,) = gateway.get("/v1/jobs").json()["data"]
    assert (job["input"]["num_frames"], job["input"]["fps"], job["seed"]) == (12, 6, 5)


@pytest.mark.parametrize("client", ["openai", "replicate", "@ai-sdk/replicate"])
def test_the_lines_for_javascript_make_a_clip(
    gateway: Gateway, worker: FakeWorker, folder: Path, client: str
) -> None:
    script = folder / "lines.mjs"
    script.write_text(block("js", client).replace(ADDRESS, gateway.url))
    (folder / "node_modules").symlink_to(modules())
    node = shutil.which("node")
    assert node is not None
    done([node, str(script)], folder)
    assert (folder / "clip.mp4").read_bytes() == CLIP


def test_the_ai_sdk_refuses_our_address_without_a_download(
    gateway: Gateway, worker: FakeWorker, folder: Path
) -> None:
    lines = block("js", "@ai-sdk/replicate").replace(ADDRESS, gateway.url)
    script = folder / "lines.mjs"
    script.write_text(re.sub(r"\n  download: .*", "", lines))
    (folder / "node_modules").symlink_to(modules())
    node = shutil.which("node")
    assert node is not None
    with pytest.raises(AssertionError, match=r"(?i)download|private|127\.0\.0\.1"):
        done([node, str(script)], folder)
    assert not (folder / "clip.mp4").exists()


def test_the_page_names_the_versions_it_was_run_with() -> None:
    for _, requirement in PYTHON.values():
        assert requirement.partition("==")[2] in PAGE
    for name, version in JAVASCRIPT.items():
        assert f"{name} {version}" in PAGE
