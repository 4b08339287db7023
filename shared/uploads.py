"""Files that clients send before the jobs that use them; unused ones expire."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import RowMapping, text

from shared.db import Database
from shared.errors import QueueFull
from shared.ids import PublicId, new_id
from shared.jobs.storage_keys import upload_key

UPLOAD_ID: Final = PublicId("upload_", "no such upload, or it has expired")
parse_upload_id: Final = UPLOAD_ID.parse
no_such_upload: Final = UPLOAD_ID.not_found

LIVES: Final = timedelta(hours=24)
MAX_LIVE: Final = 500
"""Live uploads of one owner; with the largest files they take 16 GiB."""

GRACE: Final = timedelta(minutes=5)
"""A store may receive a form's last bytes after the form's time has ended."""


@dataclass(frozen=True)
class Upload:
    """A place for one file, until `expires_at`."""

    id: UUID
    owner_id: UUID
    kind: str
    max_bytes: int
    created_at: datetime
    expires_at: datetime

    @property
    def public_id(self) -> str:
        return UPLOAD_ID.show(self.id)

    @property
    def key(self) -> str:
        return upload_key(self.id)


class Uploads:
    """The rows of uploads; the files are in the storage under `Upload.key`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def create(self, owner_id: UUID, *, kind: str, max_bytes: int) -> Upload:
        """Return a new upload.

        Raises:
            QueueFull: the owner has reached the limit.
        """
        values = {
            "id": new_id(),
            "owner_id": owner_id,
            "kind": kind,
            "max_bytes": max_bytes,
            "lives": LIVES,
            "max_live": MAX_LIVE,
        }
        with self._db.autocommit() as connection:
            row = connection.execute(_CREATE, values).mappings().first()
        if row is None:
            raise QueueFull(
                f"you have {MAX_LIVE} uploads, which is the limit; delete some, or wait",
                retry_after_seconds=600,
            )
        return _upload(row)

    def get(self, upload_id: UUID, *, owner_id: UUID) -> Upload:
        """Return an owner's upload.

        Raises:
            NotFound: foreign, expired and missing uploads alike.
        """
        values = {"id": upload_id, "owner_id": owner_id}
        with self._db.autocommit() as connection:
            row = connection.execute(_GET, values).mappings().first()
        if row is None:
            raise no_such_upload()
        return _upload(row)

    def end(self, upload_id: UUID, *, owner_id: UUID) -> Upload:
        """End an upload now; the keeper removes its file.

        Raises:
            NotFound: as `get`.
        """
        values = {"id": upload_id, "owner_id": owner_id}
        with self._db.autocommit() as connection:
            row = connection.execute(_END, values).mappings().first()
        if row is None:
            raise no_such_upload()
        return _upload(row)

    def over(self, limit: int) -> list[Upload]:
        """Return expired uploads whose files nobody can still be sending."""
        with self._db.autocommit() as connection:
            values = {"limit": limit, "grace": GRACE, "lives": LIVES}
            rows = connection.execute(_OVER, values).mappings()
            return [_upload(row) for row in rows]

    def forget(self, upload_id: UUID) -> None:
        """Remove a row whose file is gone."""
        with self._db.autocommit() as connection:
            connection.execute(_FORGET, {"id": upload_id})


def _upload(row: RowMapping) -> Upload:
    return Upload(**{name: row[name] for name in Upload.__dataclass_fields__})


_CREATE: Final = text("""
INSERT INTO uploads (id, owner_id, kind, max_bytes, expires_at)
SELECT :id, :owner_id, :kind, :max_bytes, clock_timestamp() + :lives
WHERE (SELECT count(*) FROM uploads
       WHERE owner_id = :owner_id AND expires_at > clock_timestamp()) < :max_live
RETURNING *
""")
_GET: Final = text(
    "SELECT * FROM uploads"
    " WHERE id = :id AND owner_id = :owner_id AND expires_at > clock_timestamp()"
)
_END: Final = text(
    "UPDATE uploads SET expires_at = clock_timestamp()"
    " WHERE id = :id AND owner_id = :owner_id AND expires_at > clock_timestamp() RETURNING *"
)
# A store may accept a form also after its upload was deleted.
_OVER: Final = text(
    "SELECT * FROM uploads WHERE expires_at < clock_timestamp() - :grace"
    " AND created_at < clock_timestamp() - :lives - :grace"
    " ORDER BY expires_at LIMIT :limit"
)
_FORGET: Final = text("DELETE FROM uploads WHERE id = :id")
