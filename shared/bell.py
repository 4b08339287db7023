"""The bell in Redis: "there may be work for this engine", and "this job has changed"."""

import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import redis
import structlog
from celery import Celery

TASK: Final = "answer_bell"
CHANNEL: Final = "stillreel:changed"
SOCKET_SECONDS: Final = 0.3
MUTE: Final = timedelta(seconds=5)

_log = structlog.get_logger(__name__)


def queue_name(engine: str) -> str:
    return f"bell.{engine}"


def celery_app(redis_url: str, *, socket_seconds: float) -> Celery:
    """Return a Celery app whose every socket has a timeout: kombu's default waits for ever."""
    app = Celery("stillreel", broker=redis_url, set_as_current=False)
    app.conf.update(
        broker_transport_options={
            "socket_timeout": socket_seconds,
            "socket_connect_timeout": socket_seconds,
            "retry_on_timeout": False,
        },
        broker_connection_retry=False,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_create_missing_queues=True,
    )
    return app


class Bell:
    """Rings and announces from one thread of its own, so that no request waits for Redis.

    Both may be lost: the keeper tops up the bells, and waiters read again every few seconds.
    After one failure everything is dropped for `MUTE`.
    """

    def __init__(self, redis_url: str) -> None:
        self._app = celery_app(redis_url, socket_seconds=SOCKET_SECONDS)
        self._redis = client(redis_url, socket_seconds=SOCKET_SECONDS)
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._muted_until = 0.0
        self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
        self._thread.start()

    def ring(self, engine: str) -> None:
        """Wake a worker that serves the engine; returns at once."""
        self._work.put(lambda: self._ring(engine))

    def announce(self, job_id: UUID, version: int) -> None:
        """Tell the waiters of every process that a job has changed; returns at once."""
        body = json.dumps({"id": job_id.hex, "version": version})
        self._work.put(lambda: self._publish(body))

    def waiting(self, engine: str) -> int | None:
        """Return the number of bells nobody has answered, or None where Redis does not answer."""
        try:
            return int(self._redis.llen(queue_name(engine)))
        except redis.RedisError:
            return None

    def close(self) -> None:
        """Send what is left, for a second at most."""
        self._work.put(None)
        self._thread.join(timeout=1)
        self._redis.close()
        self._app.close()

    def _ring(self, engine: str) -> None:
        self._app.send_task(TASK, queue=queue_name(engine), retry=False, ignore_result=True)

    def _publish(self, body: str) -> None:
        self._redis.publish(CHANNEL, body)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            if time.monotonic() < self._muted_until:
                continue
            try:
                work()
            except Exception as error:  # kombu lets errors of several libraries through
                self._muted_until = time.monotonic() + MUTE.total_seconds()
                _log.warning("bell_muted", reason=type(error).__name__)


def client(redis_url: str, *, socket_seconds: float) -> redis.Redis:
    """Return a Redis client that gives up after one timeout: its default tries again."""
    return redis.Redis.from_url(
        redis_url,
        socket_timeout=socket_seconds,
        socket_connect_timeout=socket_seconds,
        retry=None,
        decode_responses=True,
    )


def changes(redis_url: str, *, wait: timedelta) -> Iterator[Mapping[str, Any] | None]:
    """Yield `{"id", "version"}` of changed jobs, and None whenever `wait` passes in silence.

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
            yield None if message is None else json.loads(message["data"])
