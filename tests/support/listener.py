"""A client that reads server-sent events, as a browser does."""

import json
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests

PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Event:
    """One event, with the id that the listener would come back with."""

    name: str
    id: str
    data: dict[str, Any]


class Listening:
    """A stream that a thread reads; `last_id` also follows ids that came alone."""

    def __init__(self, url: str, headers: dict[str, str] | None = None) -> None:
        self._answer = requests.get(url, headers=headers, stream=True, timeout=PATIENCE_SECONDS)
        self.status_code, self.headers = self._answer.status_code, self._answer.headers
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
        """Return what comes until the server ends the stream."""
        return list(iter(lambda: self._events.get(timeout=PATIENCE_SECONDS), None))

    def close(self) -> None:
        self._answer.close()

    def _read(self) -> None:
        try:
            for event in self._parsed():
                self._events.put(event)
        except (requests.RequestException, AttributeError, ValueError):
            self.comments.append("cut")
        finally:
            self._events.put(None)

    def _parsed(self) -> Iterator[Event]:
        name, data = "message", ""
        for line in self._answer.iter_lines(chunk_size=None, decode_unicode=True):
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
