"""The memory that request bodies may hold, counted in bytes for the whole process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

from api.concurrency.turns import LONGEST_SECONDS, Turns

BODY_MEMORY_BYTES: Final = 256 * 1024 * 1024
"""Eight of the largest bodies; a phone's photo has a tenth of one."""


class MemoryBudget:
    """Memory for whole bodies; bodies that are arriving, or waiting in line, are in files.

    A body in JSON takes about four times its own size while it is read, which is not counted.
    """

    def __init__(self, max_bytes: int, *, each: int) -> None:
        self.turns = Turns(max_bytes, each=each, patience_seconds=LONGEST_SECONDS)

    @asynccontextmanager
    async def reserve(self, owner_id: UUID) -> AsyncIterator["Reservation"]:
        """Yield an empty reservation, and give back at the end what it grew to."""
        reservation = Reservation(self.turns, owner_id)
        try:
            yield reservation
        finally:
            reservation.give_back()


class Reservation:
    """The memory that one request holds."""

    def __init__(self, turns: Turns, owner_id: UUID) -> None:
        self._turns = turns
        self._owner_id = owner_id
        self._taken: list[int] = []

    async def grow(self, count: int) -> None:
        """Reserve more, when it is this owner's turn.

        Raises:
            Busy: other requests held too much for too long.
        """
        self._taken.append(await self._turns.take(self._owner_id, count))

    def give_back(self) -> None:
        while self._taken:
            self._turns.give_back(self._owner_id, self._taken.pop())
