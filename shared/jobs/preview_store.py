"""Previews of unfinished clips in Redis: they exist for minutes, and nothing depends on them.

They are never in Postgres or in the storage. If Redis is away, frozen, full or wiped, only
previews are lost. Nothing trusts the content of Redis.
"""

import time
from datetime import timedelta
from typing import Final, cast
from uuid import UUID

import redis
import structlog

from shared.bell import MUTE, SOCKET_SECONDS, client

LIVES: Final = timedelta(minutes=15)
"""A render that shows no step for this long has stalled."""

MOST_BYTES: Final = 64 * 1024
"""A preview of 256 x 256 pixels takes 3 to 20 kB."""

CONTENT_TYPE: Final = "image/webp"

_log = structlog.get_logger(__name__)


class PreviewStore:
    """The newest preview of each attempt; after a failure no call is made for `MUTE`."""

    def __init__(self, redis_url: str, *, socket_seconds: float = SOCKET_SECONDS) -> None:
        """By default Redis has as long as for a bell; a worker's lease thread has more time."""
        self._redis = client(redis_url, socket_seconds=socket_seconds)
        self._muted_until = 0.0

    def put(self, job_id: UUID, attempt: int, body: bytes) -> bool:
        """Store a WebP image for a while; return whether it is stored."""
        if len(body) > MOST_BYTES or self._is_muted:
            return False
        try:
            self._redis.set(_name(job_id, attempt), body, ex=LIVES)
        except redis.RedisError as error:
            self._mute(error)
            return False
        return True

    def get(self, job_id: UUID, attempt: int) -> bytes | None:
        """Return the image, or None if there is none, or something else in its place."""
        if self._is_muted:
            return None
        try:
            # The client answers in bytes, whatever its types say.
            body = cast(bytes, self._redis.getrange(_name(job_id, attempt), 0, MOST_BYTES))
        except redis.ResponseError:  # Not a string.
            return None
        except redis.RedisError as error:
            self._mute(error)
            return None
        return body if _is_webp(body) else None

    def drop(self, job_id: UUID, attempt: int) -> None:
        """Delete the preview; if that fails, it expires."""
        if self._is_muted:
            return
        try:
            self._redis.delete(_name(job_id, attempt))
        except redis.RedisError as error:
            self._mute(error)

    def close(self) -> None:
        self._redis.close()

    @property
    def _is_muted(self) -> bool:
        return time.monotonic() < self._muted_until

    def _mute(self, error: redis.RedisError) -> None:
        self._muted_until = time.monotonic() + MUTE.total_seconds()
        _log.warning("previews_muted", reason=type(error).__name__)


def _name(job_id: UUID, attempt: int) -> str:
    return f"stillreel:preview:{job_id.hex}:{attempt}"


def _is_webp(body: bytes) -> bool:
    return len(body) <= MOST_BYTES and body[:4] == b"RIFF" and body[8:12] == b"WEBP"
