"""A phone's largest photo is accepted, with bounded memory in the gateway and the decoder."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests
from PIL import Image

from api.images.decoder_pool import Decoders
from api.images.normalize import MAX_SHORT_SIDE
from api.images.protocol import Limits
from shared.errors.images import ImageOverLimits
from tests.support.gateway import FakeWorker, encoded
from tests.support.photos import cat, phone_photo
from tests.support.ports import free_port
from tests.support.processes import crew, until
from tests.support.stack import Stack

MAX_PIXELS = 64_000_000
MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def photo() -> bytes:
    """A phone's JPEG of 48 megapixels."""
    return encoded(phone_photo(), "JPEG", quality=92)


def decode(photo: bytes, *, memory_bytes: int) -> tuple[int, int]:
    decoders = Decoders(limits=Limits(memory_bytes=memory_bytes))
    try:
        image = decoders.read_image(photo, max_pixels=MAX_PIXELS)
    finally:
        decoders.close()
    return image.width, image.height


def test_48_megapixels_are_decoded_within_384_mebibytes(photo: bytes) -> None:
    assert decode(photo, memory_bytes=384 * MEBIBYTE) == (2731, MAX_SHORT_SIDE)


@pytest.mark.extended
def test_a_jpeg_of_200_megapixels_is_halved_while_it_is_decoded_within_384_mebibytes() -> None:
    tile = Image.fromarray(cat()).resize((2040, 1530))
    photo = encoded(tile.resize((16_320, 12_240), Image.Resampling.NEAREST), "JPEG", quality=50)
    for body in (photo, photo[:-2]):
        assert decode(body, memory_bytes=384 * MEBIBYTE) == (2731, MAX_SHORT_SIDE)


def test_its_decoder_is_held_to_the_memory_it_may_have(photo: bytes) -> None:
    with pytest.raises(ImageOverLimits):
        decode(photo, memory_bytes=192 * MEBIBYTE)


@contextlib.contextmanager
def peak_of(process: psutil.Process) -> Iterator[list[int]]:
    """Yield a list with one number: the process's largest resident size, in bytes, so far."""
    peak, over = [process.memory_info().rss], threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()


@pytest.mark.extended
def test_the_gateway_holds_the_file_and_not_its_pixels(
    photo: bytes, stack: Stack, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with crew(stack, tmp_path) as people, FakeWorker.on(stack):
        gateway = psutil.Process(people.start("api", port=port).pid)
        until(lambda: _answers(url), "the gateway serves")
        before = gateway.memory_info().rss
        with peak_of(gateway) as peak:
            answer = requests.post(f"{url}/v1/jobs", files={"image": photo}, timeout=100)
    assert answer.status_code == 202, answer.text
    # The bound covers the file, its PNG, a copy of each in transit, and the imports of a first
    # request.
    assert peak[0] - before < 2 * len(photo) + 64 * MEBIBYTE


def _answers(url: str) -> bool:
    with contextlib.suppress(requests.ConnectionError, requests.Timeout):
        return requests.get(f"{url}/livez", timeout=5).ok
    return False
