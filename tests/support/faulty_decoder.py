"""A decoder with planted faults: the upload names the fault.

Run as `python -m tests.support.faulty_decoder`.

An upload of `WORD ARGUMENT` and a line break does so, in the fork that should decode it; what
follows the break is decoded as usual.
"""

import ctypes
import errno
import json
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from api.images.decoder_process import main
from api.images.normalize import read_image
from api.images.protocol import DecodedImage
from shared.errors.images import InvalidImage

_released: list[int] = []


def crash(argument: str) -> None:
    ctypes.string_at(0)


def abort(argument: str) -> None:
    os.abort()


def leave(argument: str) -> None:
    os._exit(3)


def spin(argument: str) -> None:
    while True:
        pass


def hang(argument: str) -> None:
    while True:
        time.sleep(3600)


def eat(argument: str) -> None:
    eaten = []
    while True:
        eaten.append(b"x" * 2**24)


def shoot(argument: str) -> None:
    os.kill(os.getpid(), getattr(signal, argument))


def shout(argument: str) -> None:
    """Write to the place for a decoder's complaints."""
    for stream in (1, 2):
        with suppress(OSError):
            os.write(stream, argument.encode())


def wait(argument: str) -> None:
    """Wait for SIGUSR1, because a fork may not even check whether a file exists."""
    while not _released:
        time.sleep(0.01)


def tell(argument: str) -> None:
    """Report in a refusal's message what this fork knows and may do in the folder `argument`."""
    told = {"environ": dict(os.environ), "cwd": str(Path.cwd())}
    raise InvalidImage(json.dumps(told | {name: _try(name, argument) for name in ATTEMPTS}))


ATTEMPTS: dict[str, Callable[[str], object]] = {
    "read a file": lambda folder: os.open(f"{folder}/kept", os.O_RDONLY),
    "make a file": lambda folder: os.open(f"{folder}/made", os.O_WRONLY | os.O_CREAT),
    "look at a file": lambda folder: os.stat(f"{folder}/kept"),
    "list a folder": os.listdir,
    "remove a file": lambda folder: os.unlink(f"{folder}/kept"),
    "rename a file": lambda folder: os.rename(f"{folder}/kept", f"{folder}/lost"),
    "empty a file": lambda folder: os.truncate(f"{folder}/kept", 0),
    "link to a file": lambda folder: os.symlink("/etc/passwd", f"{folder}/link"),
    "name a file twice": lambda folder: os.link(f"{folder}/kept", f"{folder}/twice"),
    "change a file's mode": lambda folder: os.chmod(f"{folder}/kept", 0o777),  # noqa: S103
    "change a file's time": os.utime,
    "make a folder": lambda folder: os.mkdir(f"{folder}/below"),
    "make a fifo": lambda folder: os.mkfifo(f"{folder}/fifo"),
    "go elsewhere": os.chdir,
    "open a socket": lambda folder: socket.socket(),
    "make a pipe": lambda folder: os.pipe(),
    "read the gateway's stdin": lambda folder: os.read(0, 1),
    "start a program": lambda folder: os.execv("/bin/true", ["true"]),  # noqa: S606
    "fork": lambda folder: os.fork(),
    "signal its decoder": lambda folder: os.kill(os.getppid(), 0),
    "signal its group": lambda folder: os.kill(0, 0),
    "signal everybody": lambda folder: os.kill(-1, 0),
    "raise its limits": lambda folder: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    "become somebody": lambda folder: os.setuid(65534),
}

FAULTS: dict[bytes, Callable[[str], None]] = {
    fault.__name__.encode(): fault
    for fault in (crash, abort, leave, spin, hang, eat, shoot, shout, wait, tell)
}


def _try(name: str, folder: str) -> str:
    try:
        ATTEMPTS[name](folder)
    except (OSError, ValueError) as error:  # `setrlimit` has a ValueError for "not permitted".
        return errno.errorcode[getattr(error, "errno", errno.EPERM)]
    return "done"


def read(body: bytes, max_pixels: int, no_heic: str | None) -> DecodedImage:
    head, _, rest = body.partition(b"\n")
    word, _, argument = head.partition(b" ")
    if word not in FAULTS:
        return read_image(body, max_pixels=max_pixels, no_heic=no_heic)
    FAULTS[word](argument.decode())
    return read_image(rest, max_pixels=max_pixels)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lambda number, _: _released.append(number))  # Forks inherit it.
    main(read)
