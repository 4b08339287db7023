"""`python -m deploy.make_bucket`: make our bucket, and wait until it keeps objects."""

import sys
import time
from typing import Final

import structlog

from shared.errors import AppError, StorageUnavailable
from shared.logs import set_up
from shared.settings import read_settings
from shared.storage import Storage

PATIENCE_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.5
PROBE: Final = ".ready"

_log = structlog.get_logger(__name__)


def main() -> int:
    settings = read_settings()
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
    """Make the bucket if it is missing, and check that an object in it can be read.

    SeaweedFS answers health checks and listings some seconds before it can read an object.

    Raises:
        StorageUnavailable, Gone: the store is not ready yet.
    """
    refused: StorageUnavailable | None = None
    try:
        storage.create_bucket()
    except StorageUnavailable as error:
        refused = error  # A key without this right is enough if the bucket exists.
    try:
        storage.put(PROBE, b"ready", content_type="text/plain")
    except StorageUnavailable as error:
        raise refused or error from error
    storage.get(PROBE)
    storage.delete(PROBE)


if __name__ == "__main__":
    sys.exit(main())
