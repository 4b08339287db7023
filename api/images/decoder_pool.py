"""The processes that decode images for this gateway, so that no image can end the gateway."""

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
from api.images.protocol import ANSWER, REQUEST, DecodedImage, Limits, image_of, receive
from shared.errors import Unavailable
from shared.errors.images import (
    AnimatedImage,
    ImageOverLimits,
    ImageTooLarge,
    InvalidImage,
    TruncatedImage,
    UnsupportedImage,
)

ROOT: Final = Path(__file__).parents[2]
FROM_OUTSIDE: Final = frozenset({signal.SIGKILL, signal.SIGTERM})
"""Signals that no image causes: the system was short of memory, or somebody sent them."""

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
    """A decoder ended for a reason other than the image."""


@dataclass(frozen=True)
class Answer:
    """The result for an image: how its fork ended, as `waitpid` gives it, and what it wrote."""

    status: int
    head: bytes
    png: bytes


class Decoders:
    """As many decoders as images are decoded at once; the caller limits that by a thread pool.

    An idle decoder takes about 25 MB and is kept. One starts with the gateway, which does not wait
    for it: importing the codecs takes longer than a small image.
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

    def read_image(self, body: bytes, *, max_pixels: int) -> DecodedImage:
        """Decode an upload in another process and return it normalised.

        See `api.images.normalize.read_image`.

        Raises:
            InvalidImage: and its kinds; `ImageOverLimits` where its decoder crashed, hung, or
                took too much.
            Unavailable: decoders were killed twice, but not by the image.
        """
        try:
            return self._read(self._take(), body, max_pixels)
        except DecoderLost as error:
            _log.warning("decoder_lost", reason=str(error))
        try:
            return self._read(self._start(), body, max_pixels)
        except DecoderLost as error:
            raise Unavailable("images cannot be decoded now; try again") from error

    def close(self) -> None:
        """End all decoders, also those at work."""
        with self._lock:
            self._is_closed = True
            decoders, self._all, self._idle = self._all, set(), []
        for decoder in decoders:
            decoder.kill()

    def _read(self, decoder: "Decoder", body: bytes, max_pixels: int) -> DecodedImage:
        try:
            answer = decoder.ask(body, max_pixels, within=self._limits.wall_seconds)
        except BaseException as error:
            # The rest of an answer may still come, and would be taken for the next one.
            self._drop(decoder)
            if isinstance(error, TimeoutError):
                raise self._over_limits("time") from error
            raise
        self._give_back(decoder)
        return self._judge(answer)

    def _judge(self, answer: Answer) -> DecodedImage:
        """Return the image of an answer, or raise the error that it has."""
        if answer.status == 0 and answer.png:
            return image_of(answer.head, answer.png)
        if answer.status == 0:
            code, message = json.loads(answer.head)
            raise _REFUSALS.get(code, InvalidImage)(message, param="image")
        if os.WIFSIGNALED(answer.status):
            ended_by = signal.Signals(os.WTERMSIG(answer.status))
            if ended_by in FROM_OUTSIDE:
                raise DecoderLost(f"the fork of an image was ended by {ended_by.name}")
            raise self._over_limits(ended_by.name)
        raise self._over_limits("exit")

    def _over_limits(self, reason: str) -> ImageOverLimits:
        _log.warning("image_over_limits", reason=reason)
        return ImageOverLimits(
            "the image could not be decoded within the limits"
            f" ({self._limits.memory_bytes // 2**20} MiB of memory, {self._limits.cpu_seconds} s);"
            " save it again as a plain JPEG or PNG",
            param="image",
        )

    def _take(self) -> "Decoder":
        """Return an idle decoder that is alive, or a new one."""
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
                start_new_session=True,  # So `kill` reaches its fork, and Ctrl-C reaches neither.
            )

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, body: bytes, max_pixels: int, *, within: float) -> Answer:
        """Return the result for an image.

        Raises:
            TimeoutError: it took longer; the decoder cannot be used again.
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
        """End the decoder with its fork, and forget it; it may be called twice."""
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
    """Return the environment of a decoder: the path of the code, and no secret."""
    wanted = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    # A heap of its own for each thread of a codec would count 64 MiB of addresses.
    return wanted | {"PYTHONPATH": str(ROOT), "MALLOC_ARENA_MAX": "1"}
