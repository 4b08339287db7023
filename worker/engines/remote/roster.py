"""The servers that render one model: which is asked next, and which rests."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from worker.engines.remote.provider import Provider

REST_SECONDS: Final = 15.0


class Roster:
    """The servers of one engine; the one with the fewest of this process' jobs is asked first."""

    def __init__(self, providers: Sequence[Provider]) -> None:
        self._providers = {provider.name: provider for provider in providers}
        self._jobs: Counter[str] = Counter()
        self._rests_until: dict[str, float] = {}
        self._lock = threading.Lock()

    @property
    def is_paid(self) -> bool:
        return any(provider.is_paid for provider in self._providers.values())

    def knows(self, name: str) -> bool:
        return name in self._providers

    def at(self, name: str) -> Provider:
        return self._providers[name]

    def has_others(self, provider: Provider) -> bool:
        return any(name != provider.name for name in self._providers)

    def in_turn(self, *, but: str | None = None) -> list[Provider]:
        """Return every server, those that answered recently first, and the one in `but` last."""
        now = time.monotonic()
        with self._lock:
            return sorted(
                self._providers.values(),
                key=lambda provider: (
                    provider.name == but,
                    self._rests_until.get(provider.name, 0.0) > now,
                    self._jobs[provider.name],
                ),
            )

    def rest(self, provider: Provider, seconds: float | None) -> None:
        """Ask the other servers first for a while."""
        with self._lock:
            self._rests_until[provider.name] = time.monotonic() + (seconds or REST_SECONDS)

    @contextmanager
    def busy(self, provider: Provider) -> Iterator[None]:
        """Count a job of this server while it is watched."""
        with self._lock:
            self._jobs[provider.name] += 1
        try:
            yield
        finally:
            with self._lock:
                self._jobs[provider.name] -= 1
