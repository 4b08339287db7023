"""How the process of an image is confined, and the error if the kernel cannot do it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from api.images.confinement import (
    ALLOWED,
    NEW_THREAD,
    NEWER_CLONE,
    NUMBERS,
    ON_ITSELF,
    decoder_is_confined,
)
from tests.support.gateway import FakeWorker, photo_png
from tests.support.ports import free_port
from tests.support.processes import Program, until
from tests.support.stack import ROOT, Stack

CASES = ROOT / "tests" / "corpus" / "images"


@pytest.fixture
def old(
    module_stack: Stack, fake_worker: FakeWorker, tmp_path: Path
) -> Iterator[tuple[str, Program]]:
    """The address of a gateway on a kernel without seccomp, and its process."""
    port = free_port()
    log = tmp_path / "gateway.log"
    program = Program("tests.support.old_kernel", module_stack.env(port=port), log, "api")
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: is_up(url), "the gateway serves")
        yield url, program
    finally:
        program.kill()


def is_up(url: str) -> bool:
    try:
        return requests.get(f"{url}/livez", timeout=5).ok
    except requests.ConnectionError:
        return False


def test_decoders_are_confined_here() -> None:
    assert decoder_is_confined()


@pytest.mark.parametrize("machine", NUMBERS)
def test_every_call_has_its_number_on_every_machine(machine: str) -> None:
    assert NUMBERS[machine].keys() == {*ALLOWED, *ON_ITSELF, NEW_THREAD, NEWER_CLONE}
    assert len(set(NUMBERS[machine].values())) == len(NUMBERS[machine])


def test_a_decoder_on_a_kernel_without_filters_is_not_confined() -> None:
    tried = subprocess.run(
        [sys.executable, "-m", "tests.support.old_kernel", "api.images.confinement"],
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert tried.returncode == 1


def test_where_the_kernel_cannot_confine_images_are_taken_and_the_operator_is_told(
    old: tuple[str, Program],
) -> None:
    url, program = old
    ready = requests.get(f"{url}/readyz", timeout=60)
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    decoders = ready.json()["parts"]["decoders"]
    assert not decoders["ok"]
    assert "has no seccomp filter" in decoders["reason"]
    until(lambda: "decoders_unconfined" in program.text(), "the log says so")
    files = {"image": ("a.png", photo_png())}
    assert requests.post(f"{url}/v1/jobs", files=files, timeout=60).status_code == 202
    files = {"image": ("a.heic", (CASES / "photo.heic").read_bytes())}
    refused = requests.post(f"{url}/v1/jobs", files=files, timeout=60)
    assert (refused.status_code, refused.json()["code"]) == (415, "unsupported_image")
    assert "kernel cannot confine its decoder" in refused.json()["detail"]


def test_a_process_that_was_confined_may_still_end_itself() -> None:
    code = "import os; from api.images.confinement import confine; confine(); os.abort()"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False)
    assert ended.returncode == -6


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x86-64 alone has a second table")
def test_a_call_by_its_number_in_another_table_is_refused_too() -> None:
    """The x32 numbers name the same calls with one bit set: `open` is 2 | 2**30."""
    code = (
        "import ctypes, os; from api.images.confinement import confine; confine();"
        "libc = ctypes.CDLL(None, use_errno=True);"
        "at = libc.syscall(2 | 1 << 30, b'/dev/null', 0);"
        "os._exit(0 if at == -1 and ctypes.get_errno() == 1 else 1)"
    )
    tried = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False)
    assert tried.returncode == 0
