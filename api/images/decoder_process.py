"""A process that decodes images for one gateway: `python -m api.images.decoder_process LIMITS`.

Its stdin is a socket. It imports the codecs once and then forks for each image, so that nothing of
a hostile image is left for the next one, which may be another client's. The process itself decodes
nothing.
"""

import io
import json
import mmap
import os
import resource
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

from PIL import AvifImagePlugin, Image, ImageCms

from api.images import confinement
from api.images.files import heif
from api.images.normalize import FORMATS, MIN_SIDE, ORIENTATION, read_image
from api.images.protocol import ANSWER, REQUEST, DecodedImage, Limits, receive
from shared.errors.images import InvalidImage

ANSWER_BYTES: Final = 144 * 1024 * 1024
"""More than the PNG of 2048 x 20480 pixels of noise; pages that are not written cost nothing."""

FAILED: Final = 1
KILL_FIRST: Final = "1000"

_LENGTHS: Final = struct.Struct("!IQ")

UNCONFINED: Final = "this machine's kernel cannot confine its decoder (no seccomp filter)"

Read = Callable[[bytes, int, str | None], DecodedImage]
"""Arguments: the upload, the most pixels, and the reason why HEIC is not read, if it is not."""


def main(read: Read) -> None:
    """Decode images until the gateway is gone."""
    limits = Limits(**json.loads(sys.argv[1]))
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # The stack and heap of a thread count as memory too.
    with suppress(OSError):
        # If memory runs out, the kernel then ends a decoder and not the gateway.
        Path("/proc/self/oom_score_adj").write_text(KILL_FIRST)
    sample = import_codecs()
    if heif.missing() is not None:  # Tested once, before any image; forks inherit the result.
        sys.stderr.write(f"HEIC is not read: {heif.missing()}\n")
    with socket.socket(fileno=sys.stdin.fileno()) as gateway, suppress(EOFError, OSError):
        while True:
            with mmap.mmap(-1, ANSWER_BYTES) as answer:
                decode = partial(_decode, gateway, limits, answer, read, sample)
                status = _in_fork(decode, gateway)
                _send(gateway, status, answer)


def import_codecs() -> bytes:
    """Make Pillow import all that it would import later, because a fork may open no file.

    Returns:
        A small image, for a fork to warm up with.
    """
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind in FORMATS:
        sample, exif = io.BytesIO(), Image.Exif()
        exif[ORIENTATION] = 1
        Image.new("RGB", (MIN_SIDE, MIN_SIDE)).save(sample, kind, exif=exif, icc_profile=profile)
        read_image(sample.getvalue(), max_pixels=MIN_SIDE**2)
    return sample.getvalue()


def _in_fork(decode: Callable[[int], NoReturn], gateway: socket.socket) -> int:
    """Return how a fork ended that decoded one image; the gateway kills a fork that hangs.

    Raises:
        EOFError: the gateway is gone, or the fork ended before it had read the whole image.
    """
    progress, fork_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(progress)
        decode(fork_end)
    os.close(fork_end)
    try:
        if not os.read(progress, 1):
            raise EOFError
        look = select.poll()  # select() would fail from descriptor 1024 on.
        look.register(gateway.fileno(), select.POLLIN)
        look.register(progress, select.POLLIN)
        seen = {descriptor for descriptor, _ in look.poll()}
    finally:
        os.close(progress)
    # The gateway sends nothing while it waits, so this means its end.
    if gateway.fileno() in seen:
        os.kill(child, signal.SIGKILL)
        raise EOFError
    return os.waitpid(child, 0)[1]


def _decode(
    gateway: socket.socket,
    limits: Limits,
    answer: mmap.mmap,
    read: Read,
    sample: bytes,
    progress: int,
) -> NoReturn:
    """Take one image from the gateway, leave the result in `answer`, and end."""
    status = FAILED
    try:
        # A fork's first image costs it 5 ms of page faults; it has the time while it waits.
        read_image(sample, max_pixels=MIN_SIDE**2)
        max_pixels, count = REQUEST.unpack(receive(gateway, REQUEST.size))
        body = receive(gateway, count)
        gateway.close()
        # An image must not write to the log.
        os.closerange(sys.stdout.fileno(), sys.stderr.fileno() + 1)
        os.write(progress, b"1")
        is_confined = confine(limits)
        try:
            image = read(body, max_pixels, None if is_confined else UNCONFINED)
            head, png = image.head(), image.png
        except InvalidImage as error:
            head, png = json.dumps([error.code, error.message]).encode(), b""
        answer.write(_LENGTHS.pack(len(head), len(png)))
        answer.write(head)
        answer.write(png)
        status = 0
    finally:
        os._exit(status)


def confine(limits: Limits) -> bool:
    """Give up, for good, what decoding does not need; a system that lacks a limit runs without it.

    Returns:
        Whether the kernel accepted the filter of system calls; see `decoder_is_confined`.
    """
    cpu = limits.cpu_seconds
    wanted = {
        "RLIMIT_AS": (limits.memory_bytes, limits.memory_bytes),
        # If both limits were equal, SIGKILL would come, as if from outside.
        "RLIMIT_CPU": (cpu, cpu + 1),
        "RLIMIT_NOFILE": (0, 0),  # No file and no socket can be opened.
        "RLIMIT_FSIZE": (0, 0),
        "RLIMIT_CORE": (0, 0),
    }
    for name, soft_and_hard in wanted.items():
        with suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), soft_and_hard)
    return confinement.confine()  # The last limit, because it forbids changing limits.


def _send(gateway: socket.socket, status: int, answer: mmap.mmap) -> None:
    head = png = 0
    if status == 0:
        head, png = _LENGTHS.unpack(answer[: _LENGTHS.size])
    end = min(_LENGTHS.size + head + png, ANSWER_BYTES)
    gateway.sendall(ANSWER.pack(status, head, png))
    with memoryview(answer) as whole, whole[_LENGTHS.size : end] as filled:
        gateway.sendall(filled)


if __name__ == "__main__":
    main(lambda body, most, no_heic: read_image(body, max_pixels=most, no_heic=no_heic))
