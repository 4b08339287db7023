"""Waits out an outage of the storage, so that a job that is not at fault does not fail."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

import structlog

from shared.errors import StorageFailed, StorageUnavailable
from worker.render.lease import Lease

READ_SECONDS: Final = 100.0
"""For the image, before anything was rendered: shorter than the stage's own limit on silence."""

UPLOAD_SECONDS: Final = 220.0
"""For a finished clip: longer, because otherwise it would be rendered again. Together with the
last try, which may hang for a minute, and the pause before it, this is shorter than the stage's
limit on silence."""

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 10.0

T = TypeVar("T")

_log = structlog.get_logger(__name__)


def retry_storage(
    lease: Lease, work: Callable[[], T], *, within: float, key: str, failure: str
) -> T:
    """Return the result of the work, tried again while the storage is away.

    Args:
        within: seconds after which it gives up.
        key: of the object, for the log.
        failure: the message for the client then.

    Raises:
        StorageFailed: the storage was away for that long.
        LeaseLost, Stalled, Drained: stop the work.
    """
    ends_at = time.monotonic() + within
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return work()
        except StorageUnavailable as error:
            if time.monotonic() > ends_at:
                raise StorageFailed(failure) from error
            _log.warning("storage_retry", key=key, pause_seconds=pause)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            lease.check()
