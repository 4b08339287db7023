"""Turns at a scarce resource: an owner holds at most a part, and who holds least is next.

The field's terms are bulkhead and fair queue. The units may be threads or bytes.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from shared.errors import Busy, Unavailable

LONGEST_SECONDS: Final = 120.0
"""How long a request waits for one turn, however fast the line moves."""

LINE: Final = 250
"""How many requests of one owner may wait for one resource at once; a burst of 80 photos fits."""


@dataclass(eq=False)
class _Waiting:
    owner_id: UUID
    units: int
    turn: asyncio.Future[None] = field(default_factory=asyncio.Future)
    is_granted: bool = False


class Turns:
    """A number of units of one resource, for one event loop.

    The line is in order of arrival, but an owner who holds less goes before an owner who holds
    more, and nobody waits behind an owner whose part is full. A turn that is too large for the
    free units keeps its place until enough are free; smaller turns do not pass it for ever.
    """

    def __init__(
        self,
        units: int,
        *,
        each: int,
        patience_seconds: float,
        longest_seconds: float = LONGEST_SECONDS,
    ) -> None:
        """A request is refused if nothing is given back for `patience_seconds` while it waits."""
        self._free = units
        self._each = each
        self._patience_seconds = patience_seconds
        self._longest_seconds = longest_seconds
        self._held: Counter[UUID] = Counter()
        self._line: list[_Waiting] = []
        self._moved_at = float("-inf")
        self._is_stopping = False

    @property
    def free(self) -> int:
        return self._free

    @asynccontextmanager
    async def turn(self, owner_id: UUID, units: int = 1) -> AsyncIterator[None]:
        """Hold that many units; see `take`."""
        taken = await self.take(owner_id, units)
        try:
            yield
        finally:
            self.give_back(owner_id, taken)

    async def take(self, owner_id: UUID, units: int = 1) -> int:
        """Wait for a turn and return how many units it holds: at most an owner's whole part.

        Raises:
            Busy: the line did not move for too long, or was already too long.
            Unavailable: the gateway is stopping, and no turn is free.
        """
        waiting = _Waiting(owner_id, min(units, self._each))
        if sum(each.owner_id == owner_id for each in self._line) >= LINE:
            raise Busy(f"{LINE} of your requests already wait for their turn; try again")
        self._line.append(waiting)
        self._call_up()
        if self._is_stopping and not waiting.is_granted:
            self._leave(waiting)
            # A free turn is still given, so that a request that waited for a job can read it.
            raise _stopping()
        try:
            await self._wait(waiting)
        except BaseException:
            self._leave(waiting)
            raise
        return waiting.units

    def give_back(self, owner_id: UUID, units: int) -> None:
        """Give back what `take` returned."""
        self._free += units
        self._held[owner_id] -= units
        if not self._held[owner_id]:
            del self._held[owner_id]
        self._moved_at = asyncio.get_running_loop().time()
        self._call_up()

    def stop(self) -> None:
        """Release the waiting requests and let nobody wait any longer; still give free units."""
        self._is_stopping = True
        line, self._line = self._line, []
        for waiting in line:
            if not waiting.turn.done():
                waiting.turn.set_exception(_stopping())

    async def _wait(self, waiting: _Waiting) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        while not waiting.turn.done():
            stalled_at = max(began, self._moved_at) + self._patience_seconds
            left = min(stalled_at, began + self._longest_seconds) - clock()
            if left <= 0:
                raise Busy("too many requests of this kind are in progress; try again")
            await asyncio.wait([waiting.turn], timeout=left)
        waiting.turn.result()

    def _call_up(self) -> None:
        while (waiting := self._next()) is not None and waiting.units <= self._free:
            self._line.remove(waiting)
            self._free -= waiting.units
            self._held[waiting.owner_id] += waiting.units
            waiting.is_granted = True
            waiting.turn.set_result(None)

    def _next(self) -> _Waiting | None:
        may = (w for w in self._line if self._held[w.owner_id] + w.units <= self._each)
        return min(may, key=lambda w: self._held[w.owner_id], default=None)

    def _leave(self, waiting: _Waiting) -> None:
        if waiting.is_granted:
            self.give_back(waiting.owner_id, waiting.units)
        elif waiting in self._line:
            self._line.remove(waiting)
            self._call_up()  # It may have kept its place before other turns that fit.


def _stopping() -> Unavailable:
    return Unavailable("the gateway is stopping; try again")
