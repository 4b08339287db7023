"""The end of uploads: their files are removed when they expire, and then their rows."""

from typing import Final

import structlog

from shared.db import Database
from shared.errors import StorageUnavailable
from shared.storage import Storage
from shared.uploads import Uploads

BATCH: Final = 100

_log = structlog.get_logger(__name__)


class UploadSweeper:
    """Removes expired uploads; jobs have copies of their own, so no job misses them."""

    def __init__(self, db: Database, storage: Storage) -> None:
        self._uploads = Uploads(db)
        self._storage = storage

    def sweep(self) -> int:
        """Remove up to `BATCH` uploads; return how many were removed.

        First the storage, then the row: a crash between the two only causes another delete. An
        upload that cannot be deleted delays no other.

        Raises:
            StorageUnavailable: the store itself is away.
        """
        swept = 0
        for upload in self._uploads.over(BATCH):
            try:
                self._storage.delete(upload.key)
            except StorageUnavailable as error:
                self._storage.check()
                _log.warning("upload_refused", upload=upload.public_id, reason=error.message)
                continue
            self._uploads.forget(upload.id)
            swept += 1
        return swept
