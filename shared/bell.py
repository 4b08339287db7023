"""The bell in Redis: "there may be work for this engine", and "this job has changed".

Nothing here trusts the content of Redis: any value in an engine's list is a bell, and its content
is not read; a message that is no announcement is skipped.
"""

import contextlib
import itertools
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Final, NamedTuple, cast
from uuid import UUID

import redis
import structlog

CHANNEL: Final = "stillreel:changed"
SOCKET_SECONDS: Final = 0.3
MUTE: Final = timedelta(seconds=5)

MOST_BELLS: Final = 100
"""The most bells that wait in one engine's list: a bell says "look", and one look claims many
jobs."""

MOST_NEWS_BYTES: Final = 200
"""An announcement takes 115 bytes; a longer message is not ours and is not parsed."""

# A bell starts a job; an announced change can already be read. So bells overtake announcements.
_BELL, _NEWS, _END = range(3)

_WRONG_TYPE: Final = "WRONGTYPE"

_log = structlog.get_logger(__name__)


class Change(NamedTuple):
    """A job that has changed, and the version it has now.

    `owner_id` is None if a process of an earlier version announced it.
    """

    job_id: UUID
    version: int
    owner_id: UUID | None


def queue_name(engine: str) -> str:
    return f"stillreel:bell:{engine}"


class Bell:
    """Rings and announces from a thread of its own, so that no request waits for Redis.

    Both may be lost: idle workers look at the table, and waiters read again every few seconds.
    After one failure everything is dropped for `MUTE`.
    """

    def __init__(self, redis_url: str, *, socket_seconds: float = SOCKET_SECONDS) -> None:
        self._redis = client(redis_url, socket_seconds=socket_seconds)
        self._work: queue.PriorityQueue[tuple[int, int, Callable[[], None]]]
        self._work = queue.PriorityQueue()
        self._order = itertools.count()
        self._muted_until = 0.0
        self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
        self._thread.start()

    def ring(self, engine: str) -> None:
        """Wake a worker that serves the engine; it returns at once."""
        self._put(_BELL, lambda: self._ring(engine))

    def publish_change(self, job_id: UUID, version: int, owner_id: UUID) -> None:
        """Announce to the waiters of every process that a job has changed; it returns at once."""
        body = json.dumps({"id": job_id.hex, "version": version, "owner": owner_id.hex})
        self._put(_NEWS, lambda: self._publish(body))

    def close(self) -> None:
        """Send what is left, for at most a second."""
        self._put(_END, lambda: None)
        self._thread.join(timeout=1)
        self._redis.close()

    def _put(self, rank: int, work: Callable[[], None]) -> None:
        self._work.put((rank, next(self._order), work))

    def _ring(self, engine: str) -> None:
        try:
            _push(self._redis, engine)
        except redis.ResponseError as error:
            if _WRONG_TYPE not in str(error):
                raise
            _remove_wrong_types(self._redis, [engine])
            _push(self._redis, engine)

    def _publish(self, body: str) -> None:
        self._redis.publish(CHANNEL, body)

    def _run(self) -> None:
        rank = _BELL
        while rank != _END:
            rank, _, work = self._work.get()
            if time.monotonic() < self._muted_until:
                continue
            try:
                work()
            except Exception as error:  # Nothing may end this thread.
                self._muted_until = time.monotonic() + MUTE.total_seconds()
                _log.warning("bell_muted", reason=type(error).__name__)


def client(redis_url: str, *, socket_seconds: float) -> redis.Redis:
    """Return a Redis client that gives up after one timeout: its default tries again.

    It returns bytes, because an invalid text would be an error in the middle of a reply.
    """
    return redis.Redis.from_url(
        redis_url,
        socket_timeout=socket_seconds,
        socket_connect_timeout=socket_seconds,
        retry=None,
    )


def take_bell(connection: redis.Redis, engines: Sequence[str], *, wait: timedelta) -> str | None:
    """Return the engine of a bell, taken as soon as one is rung; None if none is rung in time.

    Raises:
        redis.RedisError: Redis is away, frozen, read-only or refuses; ask again after a pause.
    """
    names = {queue_name(engine).encode(): engine for engine in engines}
    try:
        taken = connection.brpop(list(names), timeout=wait.total_seconds())
    except redis.ResponseError as error:
        if _WRONG_TYPE not in str(error):
            raise
        _remove_wrong_types(connection, engines)
        return None
    return None if taken is None else names[cast(bytes, taken[0])]


def put_back(connection: redis.Redis, engine: str) -> None:
    """Ring again for a bell that was taken without use; it raises as `take_bell` does."""
    _push(connection, engine)


def subscribe_to_changes(redis_url: str, *, wait: timedelta) -> Iterator[Change | None]:
    """Yield the jobs that changed, and None whenever `wait` passes in silence.

    Raises:
        redis.RedisError: the connection is lost; call again after a pause.
    """
    connection = client(redis_url, socket_seconds=wait.total_seconds() + 1)
    with contextlib.closing(connection), connection.pubsub() as subscription:
        subscription.subscribe(CHANNEL)
        while True:
            message = subscription.get_message(
                ignore_subscribe_messages=True, timeout=wait.total_seconds()
            )
            yield None if message is None else read_change(message["data"])


def read_change(body: bytes) -> Change | None:
    """Return the change of an announcement, or None if the message is not one of ours."""
    if len(body) > MOST_NEWS_BYTES:
        return None
    try:
        news = json.loads(body)
        match news:
            case {"id": str(digits), "version": int(version)}:
                owner = news.get("owner")
                owner_id = UUID(hex=owner) if isinstance(owner, str) else None
                return Change(UUID(hex=digits), version, owner_id)
    except (ValueError, RecursionError):
        return None
    return None


def _remove_wrong_types(connection: redis.Redis, engines: Sequence[str]) -> None:
    """Remove keys in place of bell lists that are no lists, because they would block all bells."""
    for name in map(queue_name, engines):
        kind = connection.type(name)
        if kind not in {b"list", b"none"}:
            connection.delete(name)
            _log.warning("not_a_bell_removed", key=name, type=str(kind))


def _push(connection: redis.Redis, engine: str) -> None:
    with connection.pipeline(transaction=False) as both:
        both.lpush(queue_name(engine), b"1")
        both.ltrim(queue_name(engine), 0, MOST_BELLS - 1)
        both.execute()
