"""The way of a bell from Redis to Celery: a kombu transport whose only messages are bells.

A thread of its own takes the bells, so that neither bad data in Redis nor a Redis that hangs can
reach Celery's main process, because that process holds the child, and with it the loaded model.
The content of a bell is not read: Celery gets a message that was made here.
"""

import json
import os
import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import redis
import structlog
from kombu.transport import virtual

from shared.bell import client, put_back, take_bell
from worker.supervisor.heartbeat_file import HeartbeatFile

TASK: Final = "answer_bell"
QUEUE: Final = "bells"
"""The one queue that Celery knows; behind it are the lists of all engines in Redis."""

WAIT: Final = timedelta(seconds=1)
RETRY_SECONDS: Final = 1.0
LISTEN_AGAIN_SECONDS: Final = 0.02
"""How soon after it became idle a worker listens again, because it has just looked at the
table."""

_log = structlog.get_logger(__name__)


class Listener:
    """Takes bells in a thread, for an idle worker; each bell makes `reader` readable.

    A busy worker leaves bells to the others: it looks at the table after its render.
    """

    def __init__(
        self, redis_url: str, engines: Sequence[str], heartbeat_file: HeartbeatFile
    ) -> None:
        self._redis = client(redis_url, socket_seconds=WAIT.total_seconds() + 1)
        self._engines = engines
        self._heartbeat_file = heartbeat_file
        self._stopped = threading.Event()
        self._is_deaf = False
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)
        self._thread = threading.Thread(target=self._run, name="bells", daemon=True)
        self._thread.start()

    def clear(self) -> None:
        """Forget the bells heard so far, because one look at the table answers all of them."""
        os.read(self.reader, 4096)

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            if not self._heartbeat_file.is_idle:
                self._stopped.wait(LISTEN_AGAIN_SECONDS)
                continue
            try:
                self._listen()
            except redis.RedisError as error:
                if not self._is_deaf:
                    _log.warning("bells_lost", reason=type(error).__name__)
                self._is_deaf = True
                self._stopped.wait(RETRY_SECONDS)
            # The edge of this thread: meanwhile the worker looks at the table by itself.
            except Exception:
                _log.exception("bells_lost")
                self._stopped.wait(RETRY_SECONDS)

    def _listen(self) -> None:
        engine = take_bell(self._redis, self._engines, wait=WAIT)
        if self._is_deaf:
            _log.info("bells_heard_again")
            self._is_deaf = False
        if engine is None:
            return
        # The worker looked by itself meanwhile; another one may be idle.
        if not self._heartbeat_file.is_idle:
            put_back(self._redis, engine)
            return
        self._heartbeat_file.is_idle = False  # Until it has looked again.
        os.write(self._writer, b"1")


class Channel(virtual.Channel):
    """A channel that sends nothing."""

    do_restore = False  # If a bell is lost with its worker, nothing depends on it.

    def _get(self, queue: str, timeout: float | None = None) -> Mapping[str, Any]:
        raise virtual.base.Empty

    def _put(self, queue: str, message: Any, **_: Any) -> None:
        raise NotImplementedError("bells are rung by shared.bell")

    def _purge(self, queue: str) -> int:
        return 0

    def _size(self, queue: str) -> int:
        return 0


class Transport(virtual.Transport):
    """Gives Celery the bells; its options are a listener's `redis_url`, `engines` and `slot`."""

    Channel = Channel
    driver_type = driver_name = "bells"
    implements = virtual.Transport.implements.extend(asynchronous=True)

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)
        self._listener: Listener | None = None

    def driver_version(self) -> str:
        return "1"

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Deliver the listener's bells from Celery's loop."""
        options = self.client.transport_options
        heartbeat_file = HeartbeatFile(Path(options["slot"]))
        self._listener = Listener(options["redis_url"], options["engines"], heartbeat_file)
        loop.add_reader(self._listener.reader, self._deliver_bell, self._listener)

    def close_connection(self, connection: Any) -> None:
        if self._listener is not None:
            self._listener.stop()
        super().close_connection(connection)

    def _deliver_bell(self, listener: Listener) -> None:
        listener.clear()
        for channel in self.channels:
            if QUEUE in self._callbacks:
                self.on_message_ready(channel, message(), QUEUE)
                return


def message() -> dict[str, Any]:
    """Return a call of the task, as a message of Celery's protocol 2."""
    task_id = str(uuid4())
    return {
        "body": json.dumps([[], {}, {}]),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": TASK, "id": task_id, "root_id": task_id},
        "properties": {
            "correlation_id": task_id,
            "delivery_tag": task_id,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
        },
    }
