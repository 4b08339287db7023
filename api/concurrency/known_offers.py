"""Lists of models that were written before, and are sent again while the offers are unchanged."""

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from api.concurrency.shared_reads import SharedReads
from api.concurrency.thread_pools import ThreadPool
from shared.engines.registry import OfferHeads

MOST_CASES: Final = 100
"""One for each set of models that keys are limited to."""


class KnownOffers:
    """Belongs to one event loop; what it stores under heads was read after these."""

    def __init__(self, heads: OfferHeads, threads: ThreadPool) -> None:
        self._heads = heads
        self._threads = threads
        self._reads = SharedReads(self._read)
        self._kept: dict[object, tuple[tuple[str, ...], bytes]] = {}

    async def get(self, case: object, write: Callable[[], bytes], owner_id: UUID) -> bytes:
        """Return the result of `write` for the current offers; it runs in its owner's turn.

        Raises:
            DatabaseUnavailable: Postgres did not answer in time.
        """
        heads = await self._reads.get("all")
        kept = self._kept.get(case)
        if heads is not None and kept is not None and kept[0] == heads:
            return kept[1]
        body = await self._threads.run(write, owner_id=owner_id)
        if len(self._kept) >= MOST_CASES:
            self._kept.clear()
        self._kept[case] = heads or (), body
        return body

    async def _read(self, asked: Sequence[str]) -> dict[str, tuple[str, ...]]:
        heads = await self._heads.all()
        return dict.fromkeys(asked, heads)
