"""Owners of jobs as rows, for owners that have more than an id.

Most owners have no row: a key is its own owner, and anonymous callers and admins are one owner. A
row is made for a login of a login proxy, and when an owner's links are ended.
"""

from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from shared.db import Database
from shared.ids import new_id

ANONYMOUS: Final = UUID(int=0)
"""The one owner while no key exists."""

LINK_EPOCH: Final = "coalesce((SELECT link_epoch FROM owners WHERE owners.id = jobs.owner_id), 0)"
"""Of a job's owner; a link contains the number that was current when it was made."""

BATCH_LINK_EPOCH: Final = LINK_EPOCH.replace("jobs.", "batches.")
"""Of a batch's owner."""


class Owners:
    """The owners behind logins."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def of_login(self, login: str) -> UUID:
        """Return the owner of a login, always the same one; the first call makes it."""
        with self._db.autocommit() as connection:
            found = connection.execute(_FIND, {"login": login}).scalar()
            if found is None:
                values = {"id": new_id(), "login": login}
                found = connection.execute(_MAKE, values).scalar_one()
        return UUID(str(found))


def end_links(connection: Connection, owner_id: UUID) -> None:
    """End every link to this owner's files that was made until now."""
    connection.execute(_END_LINKS, {"id": owner_id})


_FIND: Final = text("SELECT id FROM owners WHERE login = :login")

# The update changes nothing, but with DO NOTHING the second of two concurrent inserts would return
# no row.
_MAKE: Final = text("""
INSERT INTO owners (id, login) VALUES (:id, :login)
ON CONFLICT (login) DO UPDATE SET login = EXCLUDED.login
RETURNING id
""")

_END_LINKS: Final = text("""
INSERT INTO owners (id, link_epoch) VALUES (:id, 1)
ON CONFLICT (id) DO UPDATE SET link_epoch = owners.link_epoch + 1
""")
