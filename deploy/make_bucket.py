"""`python -m deploy.make_bucket`: wait until the store keeps objects, with our bucket in it."""

import sys
import time
from typing import Final

import structlog

from shared.errors import AppError
from shared.logs import set_up
from shared.settings import Settings
from shared.storage import Storage

PATIENCE_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.5
PROBE: Final = ".ready"

_log = structlog.get_logger(__name__)


def main() -> int:
    settings = Settings()
    set_up(settings, process="bucket")
    storage = Storage(settings)
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            make_bucket(storage)
        except AppError as error:
            if time.monotonic() > ends_at:
                _log.error("no_bucket", reason=error.message)
                return 1
            time.sleep(PAUSE_SECONDS)
        else:
            _log.info("bucket_ready", bucket=settings.s3_bucket)
            return 0


def make_bucket(storage: Storage) -> None:
    """Make the bucket if it is missing, and see that an object put there can be read.

    SeaweedFS answers health checks and listings seconds before it can read an object.

    Raises:
        StorageUnavailable, Gone: it is not so far yet.
    """
    storage.create_bucket()
    storage.put(PROBE, b"ready", content_type="text/plain")
    storage.get(PROBE)
    storage.delete(PROBE)


if __name__ == "__main__":
    sys.exit(main())
