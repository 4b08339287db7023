"""Ends the remote renders of jobs that were canceled, or failed here."""

import threading
from collections.abc import Mapping
from typing import Any, Final, Protocol, runtime_checkable

import structlog

from shared.errors import DatabaseUnavailable
from shared.jobs.checkpoints import Checkpoints, OpenCheckpoint
from worker.render.loaded_engines import LoadedEngines

ROUND_SECONDS: Final = 1.0
AGAIN_ROUNDS: Final = 30
"""The pause after a call that got no answer."""

NAME: Final = "remote"

_log = structlog.get_logger(__name__)


@runtime_checkable
class EndsElsewhere(Protocol):
    """An engine whose remote renders outlive the attempt that began them."""

    def end_elsewhere(self, checkpoint: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """End the remote render; return what is known of its end, None if it must be retried."""


class EndingElsewhere:
    """Looks each second for remote renders of canceled jobs, from one thread of the process.

    The process that claimed the job may be dead, or may have handed it back, so no attempt does
    this.
    """

    def __init__(self, checkpoints: Checkpoints, engines: LoadedEngines) -> None:
        self._checkpoints = checkpoints
        self._engines = {
            name: engine for name, engine in engines.items() if isinstance(engine, EndsElsewhere)
        }
        self._skip: dict[str, int] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ending-elsewhere", daemon=True)
        if self._engines:
            self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def look(self) -> None:
        """Do one round."""
        self._skip = {key: left - 1 for key, left in self._skip.items() if left > 1}
        # Each call may take its whole deadline, so one call a round is enough.
        away: set[str] = set()
        for left_open in self._checkpoints.ended(NAME, list(self._engines)):
            if self._stopped.is_set():
                return
            is_due = str(left_open.job_id) not in self._skip and left_open.engine not in away
            if is_due and not self._has_ended(left_open):
                away.add(left_open.engine)

    def _has_ended(self, left_open: OpenCheckpoint) -> bool:
        """End it and note what is known about its end; say whether there was an answer."""
        found = self._engines[left_open.engine].end_elsewhere(left_open.value)
        if found is None:
            self._skip[str(left_open.job_id)] = AGAIN_ROUNDS
            return False
        self._checkpoints.close(left_open.job_id, NAME, {"ended_elsewhere": dict(found)})
        return True

    def _run(self) -> None:
        while not self._stopped.wait(ROUND_SECONDS):
            try:
                self.look()
            except DatabaseUnavailable as error:
                _log.warning("ending_elsewhere_missed", reason=error.cause)
            except Exception:  # The edge of this thread: the next round starts afresh.
                _log.exception("ending_elsewhere_failed")
