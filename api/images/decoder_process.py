"""A process that decodes pictures for one gateway: `python -m api.images.decoder_process LIMITS`.

Its stdin is a socket. It imports the codecs once and then forks for each picture, so that nothing
of a hostile one is left when the next comes, perhaps somebody else's. Itself it decodes nothing.
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
from api.images.protocol import ANSWER, REQUEST, Limits, Picture, receive
from shared.image_errors import InvalidImage

ANSWER_BYTES: Final = 144 * 1024 * 1024
"""Above the PNG of 2048 x 20480 pixels of noise; pages that are not written cost nothing."""

FAILED: Final = 1
KILL_FIRST: Final = "1000"

_LENGTHS: Final = struct.Struct("!IQ")

UNCONFINED: Final = "this machine's kernel cannot confine its decoder (no seccomp filter)"

Read = Callable[[bytes, int, str | None], Picture]
"""Of the upload, the most pixels, and why HEIC is not read, if it is not."""


def main(read: Read) -> None:
    """Answer pictures until the gateway is gone."""
    limits = Limits(**json.loads(sys.argv[1]))
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # A thread's stack and heap count as memory too.
    with suppress(OSError):
        # Where memory runs out, the kernel then ends a decoder and not the gateway.
        Path("/proc/self/oom_score_adj").write_text(KILL_FIRST)
    sample = import_codecs()
    if heif.missing() is not None:  # Found out once, before any picture: its forks inherit it.
        sys.stderr.write(f"HEIC is not read: {heif.missing()}\n")
    with socket.socket(fileno=sys.stdin.fileno()) as gateway, suppress(EOFError, OSError):
        while True:
            with mmap.mmap(-1, ANSWER_BYTES) as answer:
                decode = partial(_decode, gateway, limits, answer, read, sample)
                status = _in_fork(decode, gateway)
                _send(gateway, status, answer)


def import_codecs() -> bytes:
    """Have Pillow import all that it does when it first meets a kind: a fork may open no file.

    Returns:
        A small picture, for a fork to warm up with.
    """
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind in FORMATS:
        sample, exif = io.BytesIO(), Image.Exif()
        exif[ORIENTATION] = 1
        Image.new("RGB", (MIN_SIDE, MIN_SIDE)).save(sample, kind, exif=exif, icc_profile=profile)
        read_image(sample.getvalue(), max_pixels=MIN_SIDE**2)
    return sample.getvalue()


def _in_fork(decode: Callable[[int], NoReturn], gateway: socket.socket) -> int:
    """Return how a fork ended that took one picture; a hung one is the gateway's to kill.

    Raises:
        EOFError: the gateway is gone, or the fork was gone before it had read the whole picture.
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
        look = select.poll()  # Not select(): it fails from descriptor 1024 on.
        look.register(gateway.fileno(), select.POLLIN)
        look.register(progress, select.POLLIN)
        seen = {descriptor for descriptor, _ in look.poll()}
    finally:
        os.close(progress)
    if gateway.fileno() in seen:  # It sends nothing while it waits: that is its end.
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
    """Take one picture from the gateway, leave what comes of it in `answer`, and end."""
    status = FAILED
    try:
        # A fork's first picture costs it 5 ms of page faults; it has the time while it waits.
        read_image(sample, max_pixels=MIN_SIDE**2)
        max_pixels, count = REQUEST.unpack(receive(gateway, REQUEST.size))
        body = receive(gateway, count)
        gateway.close()
        os.closerange(sys.stdout.fileno(), sys.stderr.fileno() + 1)  # The log is not a picture's.
        os.write(progress, b"1")
        is_confined = confine(limits)
        try:
            picture = read(body, max_pixels, None if is_confined else UNCONFINED)
            head, png = picture.head(), picture.png
        except InvalidImage as error:
            head, png = json.dumps([error.code, error.message]).encode(), b""
        answer.write(_LENGTHS.pack(len(head), len(png)))
        answer.write(head)
        answer.write(png)
        status = 0
    finally:
        os._exit(status)


def confine(limits: Limits) -> bool:
    """Give up, for good, what decoding does not need; a system without a limit goes without it.

    Returns:
        Whether the kernel has taken the filter of system calls; see `decoder_is_confined`.
    """
    cpu = limits.cpu_seconds
    wanted = {
        "RLIMIT_AS": (limits.memory_bytes, limits.memory_bytes),
        "RLIMIT_CPU": (cpu, cpu + 1),  # Were both the same, SIGKILL would come, as from outside.
        "RLIMIT_NOFILE": (0, 0),  # No file and no socket can be opened.
        "RLIMIT_FSIZE": (0, 0),
        "RLIMIT_CORE": (0, 0),
    }
    for name, soft_and_hard in wanted.items():
        with suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), soft_and_hard)
    return confinement.confine()  # Last, for it forbids to change a limit.


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
