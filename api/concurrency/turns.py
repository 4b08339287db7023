"""Turns at something scarce: an owner holds a part of it at most, and whoever holds least is next.

The field calls it a bulkhead with a fair queue. What is counted may be threads or bytes.
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
"""How long anybody waits for one turn, however well the line moves."""

LINE: Final = 250
"""How many requests of one owner wait for one thing at once; a burst of 80 photos has room."""


@dataclass(eq=False)
class _Waiting:
    owner_id: UUID
    units: int
    turn: asyncio.Future[None] = field(default_factory=asyncio.Future)
    is_granted: bool = False


class Turns:
    """So many units of one thing, for one event loop.

    The line is in order of arrival, but an owner who holds less goes before one who holds more,
    and nobody waits behind an owner whose part is full. A turn too large for what is free keeps
    its place until enough is: small ones do not pass it for ever.
    """

    def __init__(
        self,
        units: int,
        *,
        each: int,
        patience_seconds: float,
        longest_seconds: float = LONGEST_SECONDS,
    ) -> None:
        """Who waits while nothing is given back for `patience_seconds` is refused."""
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
        """Hold so many units; see `take`."""
        taken = await self.take(owner_id, units)
        try:
            yield
        finally:
            self.give_back(owner_id, taken)

    async def take(self, owner_id: UUID, units: int = 1) -> int:
        """Wait for a turn and return how many units it holds: an owner's whole part at most.

        Raises:
            Busy: the line did not move for too long, or was too long to begin with.
            Unavailable: the gateway is stopping, and no turn is free.
        """
        waiting = _Waiting(owner_id, min(units, self._each))
        if sum(each.owner_id == owner_id for each in self._line) >= LINE:
            raise Busy(f"{LINE} requests of yours wait for their turn already; try again")
        self._line.append(waiting)
        self._call_up()
        if self._is_stopping and not waiting.is_granted:
            self._leave(waiting)
            raise _stopping()  # A turn that is free is still had: who waited for a job reads it.
        try:
            await self._wait(waiting)
        except BaseException:
            self._leave(waiting)
            raise
        return waiting.units

    def give_back(self, owner_id: UUID, units: int) -> None:
        """Return what `take` has returned."""
        self._free += units
        self._held[owner_id] -= units
        if not self._held[owner_id]:
            del self._held[owner_id]
        self._moved_at = asyncio.get_running_loop().time()
        self._call_up()

    def stop(self) -> None:
        """Let those who wait go, and nobody wait any more; what is free is still had."""
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
                raise Busy("too many requests of this kind are in the works; try again")
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
            self._call_up()  # It may have kept its place before others that fit.


def _stopping() -> Unavailable:
    return Unavailable("the gateway is stopping; try again")
