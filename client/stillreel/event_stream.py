"""A stream of server-sent events that is opened again if it breaks."""

from typing import Final

from stillreel.errors import ConnectionFailed, Refused, refusal
from stillreel.retry import PASSING, RetryPolicy
from stillreel.server_sent_events import EventReader, ServerSentEvent
from stillreel.steps import Pause, Request, Steps, chunk, opened

SILENCE_SECONDS: Final = 60.0
"""A working stream sends at least a comment within this time."""

INSTEAD_POLL: Final = frozenset({404, 405, 406, 429})
"""There is no such stream, or the caller has reached the limit of open streams."""


class NoStream(Exception):
    """The service has no such stream, or nothing passes through it."""


class EventStream:
    """The events of one path; a stream that is opened again continues after the last id."""

    def __init__(self, path: str, policy: RetryPolicy) -> None:
        self._path = path
        self._policy = policy
        self._pauses = policy.pauses()
        self._reader = EventReader()
        self._is_open = False
        self._has_heard = False

    def read(self) -> Steps[list[ServerSentEvent]]:
        """Return the next events; often there are none.

        Raises:
            NoStream: poll instead.
            Refused: the service refused.
            ConnectionFailed: the service was away for longer than the policy allows.
        """
        try:
            if not self._is_open:
                yield from self._open()
            received = yield from chunk()
            self._has_heard, self._pauses = True, self._policy.pauses()
            if received:
                return self._reader.feed(received)
            self._is_open = False
            yield Pause(self._reader.retry_seconds or self._policy.reopen_seconds)
        except (ConnectionFailed, Refused) as error:
            self._is_open = False
            yield Pause(self._pause_after(error))
        return []

    def _open(self) -> Steps[None]:
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        if self._reader.last_id is not None:
            headers["Last-Event-ID"] = self._reader.last_id
        self._reader.begin_again()
        answer = yield from opened(
            Request("GET", self._path, headers=headers, read_seconds=SILENCE_SECONDS)
        )
        kind = answer.headers.get("content-type", "")
        if answer.status in INSTEAD_POLL or (
            answer.status < 400 and not kind.startswith("text/event-stream")
        ):
            raise NoStream
        if answer.status >= 400:
            raise refusal(answer)
        self._is_open = True

    def _pause_after(self, error: ConnectionFailed | Refused) -> float:
        """Return how long to wait before the stream is opened again, or raise the error."""
        asked = None
        if isinstance(error, Refused):
            if error.status not in PASSING:
                raise error
            asked = error.retry_after_seconds
        elif error.was_sent and not self._has_heard:
            raise NoStream from error  # A proxy may hold events back for ever.
        pause = next(self._pauses, None)
        if pause is None:
            raise error
        return max(pause, asked or 0.0)
