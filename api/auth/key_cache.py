"""The API keys as they were at most a second ago, read by one thread for all requests."""

import asyncio
import time
from typing import Final
from uuid import UUID

import anyio.to_thread

from shared.api_keys.key import ApiKeySet
from shared.api_keys.store import Keys
from shared.errors import DatabaseUnavailable

FRESH_SECONDS: Final = 1.0
"""How long a key still works after another process revoked it."""

AHEAD_SECONDS: Final = 0.5
"""From this age on the keys are read again while the old ones still serve, so nobody waits."""

PAUSE_SECONDS: Final = 0.1
"""The least pause between two reads, however many guesses need one."""

PATIENCE_SECONDS: Final = 2.5
NOTE_SECONDS: Final = 60.0


class ApiKeyCache:
    """Belongs to one event loop; a frozen database costs it two threads and no more."""

    def __init__(self, keys: Keys, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._keys = keys
        self._patience_seconds = patience_seconds
        self._ring = ApiKeySet(())
        self._began_at = float("-inf")
        self._tried_at = float("-inf")
        self._not_before = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._reader = anyio.CapacityLimiter(1)
        self._writer = anyio.CapacityLimiter(1)
        self._noted: dict[UUID, float] = {}
        self._notes: set[asyncio.Task[None]] = set()

    async def read(self, *, at_most: float = FRESH_SECONDS) -> ApiKeySet:
        """Return the keys as they were at most that many seconds ago.

        Raises:
            DatabaseUnavailable: Postgres did not answer in time.
        """
        now = time.monotonic()
        oldest = now - at_most
        if self._began_at >= max(oldest, self._not_before):
            if now - self._began_at > AHEAD_SECONDS:
                self._begin_to_read()
            return self._ring
        try:
            async with asyncio.timeout(self._patience_seconds):
                while self._began_at < max(oldest, self._not_before):
                    await self._read_once()
        except TimeoutError as error:
            raise DatabaseUnavailable("the keys cannot be read now; try again") from error
        return self._ring

    def forget(self) -> None:
        """Make later callers wait for a read that begins after this; any thread may call it."""
        self._not_before = time.monotonic()

    def note_use(self, key_id: UUID) -> None:
        """Have the use of a key recorded, at most once a minute, without waiting."""
        now = time.monotonic()
        if now - self._noted.get(key_id, float("-inf")) < NOTE_SECONDS:
            return
        self._noted[key_id] = now
        note = asyncio.create_task(
            anyio.to_thread.run_sync(self._keys.note_use, key_id, limiter=self._writer)
        )
        self._notes.add(note)
        note.add_done_callback(self._forget_note)

    async def _read_once(self) -> None:
        """Wait for the read under way, or begin one."""
        # Shielded, because a caller that gives up must not end the read for the others.
        await asyncio.shield(self._begin_to_read())

    def _begin_to_read(self) -> asyncio.Task[None]:
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(_retrieve)
        return self._reading

    async def _read(self) -> None:
        await asyncio.sleep(self._tried_at + PAUSE_SECONDS - time.monotonic())
        began_at = self._tried_at = time.monotonic()
        self._ring = await anyio.to_thread.run_sync(self._keys.load_all, limiter=self._reader)
        self._began_at = began_at

    def _forget_note(self, note: asyncio.Task[None]) -> None:
        self._notes.discard(note)
        _retrieve(note)


def _retrieve(task: asyncio.Task[None]) -> None:
    """Retrieve a failure that nobody waits for; else the loop logs it as never retrieved."""
    if not task.cancelled():
        task.exception()
