"""Images are decoded in processes whose crash harms neither the gateway nor other images."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from api.images.decoder_pool import Decoders
from api.images.normalize import read_image
from api.images.protocol import DecodedImage, Limits
from shared.errors import AppError, Unavailable
from shared.errors.images import ImageOverLimits, ImageTooLarge, InvalidImage
from tests.support.bombs import jpeg_scans, png_bomb, png_flood
from tests.support.decoding import is_decoding
from tests.support.faulty_decoder import ATTEMPTS
from tests.support.gateway import beside, photo_png
from tests.support.processes import until
from tests.support.stack import ROOT
from tests.unit.test_images import GOOD, GOOD_GREY, REFUSED

MAX_PIXELS = 64_000_000
USUAL = {name: make() for name, make in (GOOD | GOOD_GREY).items()}
ANY = USUAL | {f"refused {name}": body() for name, (body, _, _) in REFUSED.items()}

TIGHT = Limits(memory_bytes=512 * 2**20, cpu_seconds=1, wall_seconds=600)
IMPATIENT = Limits(cpu_seconds=60, wall_seconds=1)


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    """The decoders that a gateway uses."""
    decoders = Decoders()
    yield decoders
    decoders.close()


@pytest.fixture
def faulty(request: pytest.FixtureRequest) -> Iterator[Decoders]:
    """Decoders that do what an upload says, within tight limits or the limits of the test."""
    limits = getattr(request, "param", TIGHT)
    decoders = Decoders(limits=limits, module="tests.support.faulty_decoder")
    yield decoders
    decoders.close()


def outcome(read: Any, body: bytes) -> DecodedImage | tuple[type[AppError], str]:
    try:
        image: DecodedImage = read(body, max_pixels=MAX_PIXELS)
    except InvalidImage as error:
        return type(error), error.message
    return image


def processes(module: str = "tests.support.faulty_decoder") -> list[psutil.Process]:
    """Return the processes of decoders that run a module, and the processes of their forks."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if module in _argv(child)]


def _argv(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def forks() -> list[psutil.Process]:
    """Return the forks that are decoding an image."""
    return [process for process in processes() if is_decoding(process)]


@pytest.mark.parametrize("kind", ANY)
def test_an_image_comes_out_the_same_as_in_one_process(decoders: Decoders, kind: str) -> None:
    assert outcome(decoders.read_image, ANY[kind]) == outcome(read_image, ANY[kind])


@pytest.mark.parametrize("fault", ["crash", "abort", "leave", "spin", "eat"])
def test_an_image_that_ends_its_decoder_is_refused_and_the_next_is_read(
    faulty: Decoders, fault: str
) -> None:
    with pytest.raises(ImageOverLimits, match=r"512 MiB of memory, 1 s.*plain JPEG") as refused:
        faulty.read_image(fault.encode() + b"\n", max_pixels=MAX_PIXELS)
    assert (refused.value.status, refused.value.param) == (422, "image")
    assert faulty.read_image(photo_png(), max_pixels=MAX_PIXELS).width == 96


@pytest.mark.parametrize("faulty", [IMPATIENT], indirect=True)
@pytest.mark.parametrize("fault", ["hang", "spin"])
def test_an_image_that_hangs_is_refused_and_its_decoder_replaced(
    faulty: Decoders, fault: str
) -> None:
    before = processes()
    with pytest.raises(ImageOverLimits):
        faulty.read_image(fault.encode() + b"\n", max_pixels=MAX_PIXELS)
    until(lambda: not any(map(_lives, before)), "all of it has ended")
    # A new decoder may not get its one second on a busy machine.
    faulty._limits = TIGHT
    assert faulty.read_image(photo_png(), max_pixels=MAX_PIXELS).width == 96


def test_images_beside_one_that_crashes_are_read(faulty: Decoders) -> None:
    bodies = [b"crash\n", photo_png()] * 6
    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(lambda body: outcome(faulty.read_image, body), bodies))
    good = read_image(photo_png(), max_pixels=MAX_PIXELS)
    assert [isinstance(found, tuple) for found in outcomes] == [True, False] * 6
    assert outcomes[1::2] == [good] * 6


@pytest.mark.parametrize("whom", ["the fork", "the decoder", "both"])
def test_an_image_whose_decoder_was_killed_is_read_by_another(faulty: Decoders, whom: str) -> None:
    body = b"wait\n" + photo_png()
    reading = beside(lambda: faulty.read_image(body, max_pixels=MAX_PIXELS))
    (fork,) = until(forks, "the image is being decoded")
    decoder = fork.parent()
    assert decoder is not None
    for victim in {"the fork": [fork], "the decoder": [decoder], "both": [decoder, fork]}[whom]:
        victim.kill()
    (other,) = until(lambda: [each for each in forks() if each != fork], "another is at it")
    other.send_signal(signal.SIGUSR1)
    assert reading.result(timeout=60) == read_image(photo_png(), max_pixels=MAX_PIXELS)


def test_decoders_that_are_killed_again_and_again_are_not_the_images_fault(
    faulty: Decoders,
) -> None:
    with pytest.raises(Unavailable, match="try again"):
        faulty.read_image(b"shoot SIGKILL\n", max_pixels=MAX_PIXELS)
    assert faulty.read_image(photo_png(), max_pixels=MAX_PIXELS).width == 96


def test_an_idle_decoder_that_was_killed_is_not_noticed(decoders: Decoders) -> None:
    for process in processes("api.images.decoder_process"):
        process.kill()
    assert decoders.read_image(photo_png(), max_pixels=MAX_PIXELS).width == 96


def test_a_fork_knows_no_secret_and_reaches_nothing_outside_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STILLREEL_S3_SECRET_KEY", "hunter2")
    (tmp_path / "kept").write_text("as it was")
    decoders = Decoders(limits=TIGHT, module="tests.support.faulty_decoder")
    try:
        with pytest.raises(InvalidImage) as told:
            decoders.read_image(b"tell " + os.fsencode(tmp_path) + b"\n", max_pixels=MAX_PIXELS)
    finally:
        decoders.close()
    known = json.loads(told.value.message)
    environ = known.pop("environ")
    assert set(environ) <= {"PYTHONPATH", "MALLOC_ARENA_MAX", "LD_LIBRARY_PATH", "LC_CTYPE"}
    assert known.pop("cwd") == "/"
    assert known.keys() == ATTEMPTS.keys()
    assert {name: said for name, said in known.items() if said != "EPERM"} == {}
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_text() == "as it was"


@pytest.mark.extended
def test_what_a_fork_says_does_not_reach_the_log() -> None:
    code = (
        "from api.images.decoder_pool import Decoders\n"
        "from tests.support.gateway import photo_png\n"
        "decoders = Decoders(module='tests.support.faulty_decoder')\n"
        "decoders.read_image(b'shout forged\\n' + photo_png(), max_pixels=10_000)\n"
        "decoders.close()"
    )
    # A container's log is a pipe too. If the output were a file, the fork's limits would keep the
    # text out in any case.
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=100, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_nothing_is_left_of_decoders_that_were_closed_at_work(faulty: Decoders) -> None:
    reading = beside(lambda: faulty.read_image(b"hang\n", max_pixels=MAX_PIXELS))
    until(forks, "the image is being decoded")
    everyone = processes()
    faulty.close()
    assert isinstance(reading.exception(timeout=60), Unavailable)
    until(lambda: not any(map(_lives, everyone)), "all have ended")


def test_nothing_is_left_of_the_decoders_of_a_gateway_that_was_killed() -> None:
    code = (
        "from api.images.decoder_pool import Decoders\n"
        "decoders = Decoders(module='tests.support.faulty_decoder')\n"
        "decoders.read_image(b'hang\\n', max_pixels=99)"
    )
    gateway = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    family = psutil.Process(gateway.pid)
    until(lambda: any(map(is_decoding, family.children(recursive=True))), "it is being decoded")
    children = family.children(recursive=True)
    assert len(children) >= 2  # There may be a third, which tests the confinement.
    gateway.send_signal(signal.SIGKILL)
    gateway.wait(timeout=60)
    until(lambda: not any(map(_lives, children)), "all have ended")


def _lives(process: psutil.Process) -> bool:
    """Return whether a process runs; an orphan that nobody has reaped does not run."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_bomb_of_time_is_refused(faulty: Decoders) -> None:
    bomb = jpeg_scans(4000, 2000)
    assert len(bomb) < 2**20
    assert outcome(faulty.read_image, bomb)[0] is ImageOverLimits  # type: ignore[index]


def test_a_bomb_of_memory_is_refused(faulty: Decoders) -> None:
    bomb = png_bomb()
    assert len(bomb) < 2**19
    assert outcome(faulty.read_image, bomb)[0] is ImageOverLimits  # type: ignore[index]


def test_a_flood_of_pixels_is_refused_by_its_header(decoders: Decoders) -> None:
    assert outcome(decoders.read_image, png_flood(30_000))[0] is ImageTooLarge  # type: ignore[index]
