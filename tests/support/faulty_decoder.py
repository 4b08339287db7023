"""A decoder with planted faults: the upload says which.

Run as `python -m tests.support.faulty_decoder`.

An upload of `WORD ARGUMENT` and a line break does so, in the fork that should decode it; what
follows the break is decoded as usual.
"""

import ctypes
import errno
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from api.images.decoder_process import main
from api.images.normalize import read_image
from api.images.protocol import Picture
from shared.errors import InvalidImage


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
        signal.pause()


def eat(argument: str) -> None:
    eaten = []
    while True:
        eaten.append(b"x" * 2**24)


def shoot(argument: str) -> None:
    os.kill(os.getpid(), getattr(signal, argument))


def wait_for(argument: str) -> None:
    """Wait until a file is there: a look at a name opens nothing."""
    while not Path(argument).exists():
        time.sleep(0.01)


def tell(argument: str) -> None:
    """Say in a refusal's message what this fork knows and may do."""
    told = {"environ": dict(os.environ), "cwd": str(Path.cwd()), **{n: _try(n) for n in ATTEMPTS}}
    raise InvalidImage(json.dumps(told))


ATTEMPTS: dict[str, Callable[[], object]] = {
    "read a file": lambda: Path("/etc/hosts").read_bytes(),
    "open a socket": lambda: socket.socket(),
    "make a pipe": os.pipe,
    "read the gateway's stdin": lambda: os.read(0, 1),
}

FAULTS: dict[bytes, Callable[[str], None]] = {
    fault.__name__.encode(): fault
    for fault in (crash, abort, leave, spin, hang, eat, shoot, wait_for, tell)
}


def _try(name: str) -> str:
    try:
        ATTEMPTS[name]()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def read(body: bytes, max_pixels: int) -> Picture:
    head, _, rest = body.partition(b"\n")
    word, _, argument = head.partition(b" ")
    if word not in FAULTS:
        return read_image(body, max_pixels=max_pixels)
    FAULTS[word](argument.decode())
    return read_image(rest, max_pixels=max_pixels)


if __name__ == "__main__":
    main(read)
