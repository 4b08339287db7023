"""Server-sent events, from chunks of bytes as they arrive."""

from dataclasses import dataclass
from typing import Final

from stillreel.errors import UnexpectedAnswer

MAX_EVENT_BYTES: Final = 4 * 2**20


@dataclass(frozen=True)
class ServerSentEvent:
    name: str
    data: str


class EventReader:
    """Takes bytes and returns whole events; keeps the last id and the requested pause."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.retry_seconds: float | None = None
        self._rest = b""
        self._name = ""
        self._data: list[str] = []
        self._id: str | None = None

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Return the events that this chunk completes.

        Raises:
            UnexpectedAnswer: one line is longer than any event of ours.
        """
        lines = (self._rest + chunk).replace(b"\r\n", b"\n").split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_EVENT_BYTES:
            raise UnexpectedAnswer("the stream of events has a line that does not end")
        found = []
        for line in lines:
            if line:
                self._field(line.decode(errors="replace"))
            elif (event := self._dispatch()) is not None:
                found.append(event)
        return found

    def begin_again(self) -> None:
        """Forget the incomplete event of a broken stream."""
        self._rest, self._name, self._data, self._id = b"", "", [], None

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isdecimal():
                self.retry_seconds = int(value) / 1000

    def _dispatch(self) -> ServerSentEvent | None:
        if self._id is not None:
            self.last_id = self._id
        event = ServerSentEvent(self._name or "message", "\n".join(self._data))
        has_data = bool(self._data)
        self._name, self._data, self._id = "", [], None
        return event if has_data or event.name != "message" else None
