"""Sessions as they were at most a second ago, because a page sends many requests."""

import time
from collections import OrderedDict
from functools import partial
from typing import Final

from api.auth.key_cache import FRESH_SECONDS
from api.auth.patient_reads import PatientReads
from shared.api_keys.sessions import Session, Sessions

MOST_KNOWN: Final = 10_000


class SessionCache:
    """Belongs to one event loop."""

    def __init__(self, sessions: Sessions, reads: PatientReads) -> None:
        self._sessions = sessions
        self._reads = reads
        self._known: OrderedDict[str, tuple[float, Session | None]] = OrderedDict()

    async def find(self, token: str) -> Session | None:
        """Return the live session of a token; a guessed token costs no query of the database.

        Raises:
            DatabaseUnavailable: Postgres did not answer in time.
        """
        if not self._sessions.is_ours(token):
            return None
        read_at, session = self._known.get(token, (float("-inf"), None))
        if time.monotonic() - read_at < FRESH_SECONDS:
            return session
        began_at = time.monotonic()
        session = await self._reads.run(partial(self._sessions.find, token))
        self._known[token] = (began_at, session)
        self._known.move_to_end(token)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return session

    def forget(self, token: str) -> None:
        """Make the next request with this token read it again."""
        self._known.pop(token, None)
