"""A client that reads server-sent events, as a browser does."""

import contextlib
import json
import queue
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Event:
    """One event, with the id with which the listener would reconnect."""

    name: str
    id: str
    data: dict[str, Any]


class Listening:
    """A stream that a thread reads; `last_id` also follows ids that came alone."""

    def __init__(self, url: str, headers: dict[str, str] | None = None) -> None:
        parts = urlsplit(url)
        self._connection = HTTPConnection(parts.netloc, timeout=PATIENCE_SECONDS)
        self._connection.request("GET", parts.path, headers=headers or {})
        self._answer = self._connection.getresponse()
        self.status_code, self.headers = self._answer.status, self._answer.headers
        self.comments: list[str] = []
        self.retry: str | None = None
        self.last_id = ""
        self._events: queue.Queue[Event | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def next(self, seconds: float = PATIENCE_SECONDS) -> Event:
        event = self._events.get(timeout=seconds)
        assert event is not None, "the stream has ended"
        return event

    def until(self, status: str) -> Event:
        """Return the first event that has the status."""
        while True:
            event = self.next()
            if event.data.get("status") == status:
                return event

    def rest(self) -> list[Event]:
        """Return the events until the server ends the stream."""
        return list(iter(lambda: self._events.get(timeout=PATIENCE_SECONDS), None))

    def each(self) -> Iterator[Event]:
        """Yield the events until the stream ends, however long that takes."""
        yield from iter(self._events.get, None)

    def close(self) -> None:
        """Disconnect, also while a thread reads."""
        with contextlib.suppress(OSError, AttributeError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _read(self) -> None:
        try:
            for event in self._parsed():
                self._events.put(event)
        except (OSError, HTTPException, AttributeError, ValueError):
            self.comments.append("cut")
        finally:
            self._events.put(None)

    def _parsed(self) -> Iterator[Event]:
        name, data = "message", ""
        for raw in self._answer:
            line = raw.decode().rstrip("\n")
            field, _, value = line.partition(": ")
            match field:
                case "":
                    if line:
                        self.comments.append(value)
                    elif data:
                        yield Event(name, self.last_id, json.loads(data))
                        name, data = "message", ""
                case "event":
                    name = value
                case "id":
                    self.last_id = value
                case "data":
                    data = value
                case "retry":
                    self.retry = value
