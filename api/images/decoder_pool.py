"""The processes that decode pictures for this gateway, so that no picture can take it with it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import structlog

from api.images.confinement import check_confined
from api.images.protocol import ANSWER, REQUEST, Limits, Picture, picture_of, receive
from shared.errors import Unavailable
from shared.image_errors import (
    AnimatedImage,
    ImageOverLimits,
    ImageTooLarge,
    InvalidImage,
    TruncatedImage,
    UnsupportedImage,
)

ROOT: Final = Path(__file__).parents[2]
FROM_OUTSIDE: Final = frozenset({signal.SIGKILL, signal.SIGTERM})
"""Signals that no picture causes: the system was short of memory, or somebody meant it."""

_REFUSALS: Final[dict[str, type[InvalidImage]]] = {
    kind.code: kind
    for kind in (
        InvalidImage,
        UnsupportedImage,
        TruncatedImage,
        AnimatedImage,
        ImageTooLarge,
        ImageOverLimits,
    )
}

_log = structlog.get_logger(__name__)


class DecoderLost(Exception):
    """A decoder ended for a reason that is not the picture's."""


@dataclass(frozen=True)
class Answer:
    """What came of a picture: how its fork ended, as `waitpid` says it, and what it wrote."""

    status: int
    head: bytes
    png: bytes


class Decoders:
    """As many decoders as there are pictures at once; who calls limits that, by a lane.

    An idle decoder takes about 25 MB and is kept. One starts with the gateway and is not waited
    for: importing the codecs takes longer than a small picture.
    """

    def __init__(
        self, *, limits: Limits | None = None, module: str = "api.images.decoder_process"
    ) -> None:
        self._limits = limits or Limits()
        self._module = module
        self._lock = threading.Lock()
        self._is_closed = False
        self._all: set[Decoder] = set()
        self._idle: list[Decoder] = [self._start()]
        threading.Thread(target=_tell_if_unconfined, daemon=True).start()

    def read_image(self, body: bytes, *, max_pixels: int) -> Picture:
        """Decode an upload elsewhere and return it normalised.

        See `api.images.normalize.read_image`.

        Raises:
            InvalidImage: and its kinds; `ImageOverLimits` where its decoder crashed, hung, or
                took too much.
            Unavailable: decoders were killed, twice, and not by what they read.
        """
        try:
            return self._read(self._take(), body, max_pixels)
        except DecoderLost as error:
            _log.warning("decoder_lost", reason=str(error))
        try:
            return self._read(self._start(), body, max_pixels)
        except DecoderLost as error:
            raise Unavailable("images cannot be decoded at the moment; try again") from error

    def close(self) -> None:
        """End them, also those at work."""
        with self._lock:
            self._is_closed = True
            decoders, self._all, self._idle = self._all, set(), []
        for decoder in decoders:
            decoder.kill()

    def _read(self, decoder: "Decoder", body: bytes, max_pixels: int) -> Picture:
        try:
            answer = decoder.ask(body, max_pixels, within=self._limits.wall_seconds)
        except BaseException as error:
            self._drop(decoder)  # The rest of an answer may still come, and be taken for the next.
            if isinstance(error, TimeoutError):
                raise self._over_limits("time") from error
            raise
        self._give_back(decoder)
        return self._judge(answer)

    def _judge(self, answer: Answer) -> Picture:
        """Return the picture of an answer, or raise what it says."""
        if answer.status == 0 and answer.png:
            return picture_of(answer.head, answer.png)
        if answer.status == 0:
            code, message = json.loads(answer.head)
            raise _REFUSALS.get(code, InvalidImage)(message, param="image")
        if os.WIFSIGNALED(answer.status):
            ended_by = signal.Signals(os.WTERMSIG(answer.status))
            if ended_by in FROM_OUTSIDE:
                raise DecoderLost(f"a picture's fork was ended by {ended_by.name}")
            raise self._over_limits(ended_by.name)
        raise self._over_limits("exit")

    def _over_limits(self, reason: str) -> ImageOverLimits:
        _log.warning("picture_over_limits", reason=reason)
        return ImageOverLimits(
            "the image could not be decoded within the limits"
            f" ({self._limits.memory_bytes // 2**20} MiB of memory, {self._limits.cpu_seconds} s);"
            " save it anew as a plain JPEG or PNG",
            param="image",
        )

    def _take(self) -> "Decoder":
        """Return an idle decoder that lives, or a new one."""
        while True:
            with self._lock:
                if not self._idle:
                    break
                decoder = self._idle.pop()
            if decoder.is_alive():
                return decoder
            self._drop(decoder)
        return self._start()

    def _start(self) -> "Decoder":
        decoder = Decoder(self._module, self._limits)
        with self._lock:
            if not self._is_closed:
                self._all.add(decoder)
                return decoder
        decoder.kill()
        raise Unavailable("the gateway is stopping; try again")

    def _give_back(self, decoder: "Decoder") -> None:
        with self._lock:
            if not self._is_closed:
                self._idle.append(decoder)

    def _drop(self, decoder: "Decoder") -> None:
        with self._lock:
            self._all.discard(decoder)
        decoder.kill()


class Decoder:
    """One process; `ask` is for one thread at a time."""

    def __init__(self, module: str, limits: Limits) -> None:
        self._peer, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, json.dumps(asdict(limits))],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=_environment(),
                cwd="/",
                start_new_session=True,  # `kill` then reaches its fork, and Ctrl-C neither.
            )

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, body: bytes, max_pixels: int, *, within: float) -> Answer:
        """Return what came of a picture.

        Raises:
            TimeoutError: it took longer; the decoder is of no more use.
            DecoderLost: the process was gone before it had answered.
        """
        ends_at = time.monotonic() + within
        try:
            self._peer.settimeout(within)
            self._peer.sendall(REQUEST.pack(max_pixels, len(body)))
            self._peer.sendall(body)
            answer = receive(self._peer, ANSWER.size, until=ends_at)
            status, head, png = ANSWER.unpack(answer)
            return Answer(
                status,
                receive(self._peer, head, until=ends_at),
                receive(self._peer, png, until=ends_at),
            )
        except TimeoutError:
            raise
        except (EOFError, OSError) as error:
            raise DecoderLost("its process was gone") from error

    def kill(self) -> None:
        """End it with its fork, and forget it; may be called twice."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._peer.close()


def _tell_if_unconfined() -> None:
    try:
        check_confined()
    except Unavailable as error:
        _log.warning("decoders_unconfined", reason=error.message)


def _environment() -> dict[str, str]:
    """Return what a decoder is told of this process: where code lies, and no secret."""
    wanted = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    # A heap of its own for each of a codec's threads would count 64 MiB of addresses.
    return wanted | {"PYTHONPATH": str(ROOT), "MALLOC_ARENA_MAX": "1"}
