"""A job's head: its owner, and a stamp that tells whether its row changed since it was read."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final
from uuid import UUID

from shared.db import PATIENCE_SECONDS
from shared.jobs.listing import walk
from shared.lifecycle import Status
from shared.loop_reads import LoopReads
from shared.owners import LINK_EPOCH


@dataclass(frozen=True, slots=True)
class Head:
    """The owner, and a stamp that differs after each change of the row or of its owner's links.

    It differs after a reconnect too, because the server that answers then may have another past.
    """

    owner_id: str
    is_deleted: bool
    stamp: str


class JobHeads:
    """Reads heads on the event loop: those of given jobs, and those of a first page."""

    def __init__(
        self, url: str, *, deadline: timedelta, name: str, patience_seconds: int = PATIENCE_SECONDS
    ) -> None:
        reads = partial(
            LoopReads, url, deadline=deadline, name=name, patience_seconds=patience_seconds
        )
        self._given = reads(_GIVEN)
        self._newest = reads(_NEWEST)

    async def many(self, job_ids: Sequence[UUID]) -> dict[UUID, Head]:
        """Return the heads of these jobs, of any owner, also of deleted jobs.

        Raises:
            DatabaseUnavailable: Postgres did not answer in time.
        """
        asked = {str(job_id): job_id for job_id in job_ids}
        rows = await self._given.values(f"{{{','.join(asked)}}}")
        return {asked[job_id]: head for job_id, head in map(self._head, rows)}

    async def newest(self, owner_id: UUID, limit: int) -> dict[UUID, Head]:
        """Return the heads of an owner's newest jobs that are not deleted, the newest first.

        Raises:
            DatabaseUnavailable: as `many`.
        """
        rows = await self._newest.values(str(owner_id), str(limit))
        return {UUID(job_id): head for job_id, head in map(self._head, rows)}

    def close(self) -> None:
        self._given.close()
        self._newest.close()

    def _head(self, row: str) -> tuple[str, Head]:
        job_id, owner_id, is_deleted, stamp = row.split(" ", 3)
        connections = self._given.connections + self._newest.connections
        return job_id, Head(owner_id, is_deleted == "t", f"{connections} {stamp}")


# `version` alone would miss what the keeper writes; `xmin` and `ctid` change with each update.
# In one column, because each column costs as much as the whole row.
_HEAD: Final = (
    f"concat_ws(' ', id, owner_id, deleted_at IS NOT NULL, version, xmin, ctid, {LINK_EPOCH})"
)

_GIVEN: Final = f"SELECT {_HEAD} FROM jobs WHERE id = ANY($1::uuid[])"  # noqa: S608 (constants)

_WALK: Final = (
    walk("owner_id, status, id", "$1::uuid, one.name", order="DESC", limit="$2::int")
    .replace(":statuses", f"'{{{','.join(Status)}}}'")
    .replace(":low", "'00000000-0000-0000-0000-000000000000'")
    .replace(":high", "'ffffffff-ffff-ffff-ffff-ffffffffffff'")
)
_NEWEST: Final = f"""
SELECT {_HEAD} FROM jobs WHERE id = ANY(ARRAY({_WALK})) ORDER BY id DESC
"""  # noqa: S608 (constants)
