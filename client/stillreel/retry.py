"""Which requests are sent again, and after what pause."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from stillreel.errors import ConnectionFailed, Refused, StillreelError, UnexpectedAnswer, refusal
from stillreel.steps import Answer, Pause, Request, Steps, once

PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
REFUSED_BEFORE_WORK: Final = frozenset({429, 503})
MAX_PAUSE_SECONDS: Final = 30.0
MAX_RETRY_AFTER_SECONDS: Final = 120.0


@dataclass(frozen=True)
class RetryPolicy:
    """How often a request is sent again after an error that may go away: 5 times, in some 15 s.

    The pauses of long calls are here too, because every call gets this policy.
    """

    retries: int = 5
    first_pause_seconds: float = 0.5
    reopen_seconds: float = 1.0
    """The pause before a broken stream is opened again, if the service names no time."""

    poll_pause_seconds: float = 0.2
    """The pause between polls, so that a service that answers at once is not asked without end."""

    list_pause_seconds: float = 2.0

    @classmethod
    def of(cls, retries: "int | RetryPolicy") -> "RetryPolicy":
        return retries if isinstance(retries, RetryPolicy) else cls(retries)

    def pauses(self) -> Iterator[float]:
        """Yield the seconds before each retry: doubled each time, and 0 to 25 % less at random."""
        for number in range(self.retries):
            seconds = min(MAX_PAUSE_SECONDS, self.first_pause_seconds * 2**number)
            yield seconds * random.uniform(0.75, 1)  # noqa: S311  nothing secret


def send(request: Request, policy: RetryPolicy, *, is_repeatable: bool = True) -> Steps[Answer]:
    """Return the answer to a request, sent again while that can help.

    Args:
        is_repeatable: whether a second copy does no harm. If it does, the request is sent again
            only if the first was surely not processed.

    Raises:
        Refused: the service refused.
        ConnectionFailed: it did not answer.
    """
    pauses = policy.pauses()
    while True:
        try:
            answer = yield from once(request)
            if answer.status < 300 or answer.status == 304:
                return answer
            if answer.status < 400:
                raise UnexpectedAnswer(
                    f"the service redirects to {answer.headers.get('location')}; set"
                    " STILLREEL_URL to that address"
                )
            raise refusal(answer)
        except (ConnectionFailed, Refused) as error:
            pause = next(pauses, None)
            if pause is None or not _helps(error, is_repeatable):
                raise
            yield Pause(_wait(error, pause))


def _helps(error: StillreelError, is_repeatable: bool) -> bool:
    if isinstance(error, ConnectionFailed):
        return is_repeatable or not error.was_sent
    assert isinstance(error, Refused)
    if error.forbids_retry or (error.retry_after_seconds or 0) > MAX_RETRY_AFTER_SECONDS:
        return False
    return error.status in (PASSING if is_repeatable else REFUSED_BEFORE_WORK)


def _wait(error: StillreelError, pause: float) -> float:
    asked = error.retry_after_seconds if isinstance(error, Refused) else None
    return pause if asked is None else max(pause, asked)
