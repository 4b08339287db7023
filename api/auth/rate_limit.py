"""How often a key, or an address without a good key, may send requests (GCRA).

Each process counts for itself.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from shared.errors import RateLimited

SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600}
# About 2 MB; the name that was unused for longest is forgotten first.
MOST_BUCKETS: Final = 10_000


@dataclass(frozen=True)
class Rate:
    """A number of requests in a time, as `50/second`; 50 may also come at once."""

    amount: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the rate that a setting names, or None for `none`."""
        amount, _, unit = text.partition("/")
        return cls(int(amount), unit) if unit else None

    @property
    def seconds_each(self) -> float:
        return SECONDS[self.unit] / self.amount


REFUSALS: Final = Rate(60, "minute")


class Buckets:
    """One bucket for each name, full at first and refilled evenly; not thread-safe.

    For each name one time is stored: when its bucket is full again. A full bucket need not be
    stored.
    """

    def __init__(
        self,
        rate: Rate,
        *,
        whose: str,
        most: int = MOST_BUCKETS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`whose` ends the error's sentence about the limit, like "one key"."""
        self._rate = rate
        self._whose = whose
        self._most = most
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, name: str) -> None:
        """Count one request; a refused one costs nothing.

        Raises:
            RateLimited: the bucket is empty; the error says when to try again.
        """
        now, rate = self._clock(), self._rate
        before = max(self._full_at.pop(name, now), now)
        full_at = before + rate.seconds_each
        early = full_at - now - rate.amount * rate.seconds_each
        # Sums of tenths as floats miss a whole second by less than this.
        is_empty = early > rate.seconds_each * 1e-6
        self._full_at[name] = before if is_empty else full_at
        if len(self._full_at) > self._most:
            self._full_at.popitem(last=False)
        if is_empty:
            raise RateLimited(
                f"the limit for {self._whose} is {rate.amount}/{rate.unit};"
                " send fewer requests at once",
                retry_after_seconds=max(1, math.ceil(early)),
            )


class Rates:
    """The limits of one gateway process; without a rate there are no limits."""

    def __init__(self, rate: Rate | None) -> None:
        self._callers = None if rate is None else Buckets(rate, whose="one key")
        self._refused = None if rate is None else Buckets(REFUSALS, whose="bad keys from there")

    def count_caller(self, name: str) -> None:
        """Raise RateLimited if a key's requests come too fast."""
        if self._callers is not None:
            self._callers.take(name)

    def count_refusal(self, address: str) -> None:
        """Raise RateLimited if an address was refused too often.

        Called only after a refusal, so the bad keys of a neighbour never stop a caller with a good
        key. Behind a proxy all callers have one address.
        """
        if self._refused is not None:
            self._refused.take(address)
