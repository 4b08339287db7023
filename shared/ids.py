"""The ids of rows."""

from uuid import UUID

import uuid_utils


def new_id() -> UUID:
    """Return a uuid7: ids sort by the time they were drawn."""
    return UUID(int=uuid_utils.uuid7().int)
