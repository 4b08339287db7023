"""A reason that keeps a worker from claiming, logged once each time."""

import structlog

_log = structlog.get_logger(__name__)


class Hindrance:
    """A reason that keeps a worker from claiming; its begin and end are logged, not each look."""

    def __init__(self) -> None:
        self._event: str | None = None

    def note(self, event: str, **facts: object) -> None:
        if event != self._event:
            _log.error(event, **facts)
        self._event = event

    def end(self) -> None:
        if self._event is not None:
            _log.info("claims_again", after=self._event)
        self._event = None
