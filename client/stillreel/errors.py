"""Every error that a caller of the client may meet, as a tree.

StillreelError
├── WrongAddress           the address of the service, or the key, cannot be used
├── PhotoUnreadable        the photo is no file that can be read
├── ConnectionFailed       the service did not answer, or stopped in the middle
├── UnexpectedAnswer       something answered, and not as Stillreel does
├── DownloadDamaged        what arrived is not what the service keeps
├── WaitTimedOut           the time to wait is over; the job goes on
├── JobNotSucceeded        the job ended without a clip
│   ├── JobFailed
│   └── JobCanceled
└── Refused                the service said no; `code` is stable
    ├── InvalidRequest     400, 413, 415, 422
    ├── NotAuthenticated   401
    ├── Forbidden          403
    ├── NotFound           404, 410
    ├── Conflict           409
    ├── TooMany            429
    └── Unavailable        5xx
"""

import json
from typing import TYPE_CHECKING, Any, Final

from stillreel.steps import Answer

if TYPE_CHECKING:
    from stillreel.job import Job


class StillreelError(Exception):
    """The message says what is wrong and, if it is known, what to do."""


class WrongAddress(StillreelError):
    pass


class PhotoUnreadable(StillreelError):
    pass


class ConnectionFailed(StillreelError):
    """`was_sent` is false if the request surely never reached the service."""

    def __init__(self, message: str, *, was_sent: bool = True) -> None:
        super().__init__(message)
        self.was_sent = was_sent


class UnexpectedAnswer(StillreelError):
    pass


class DownloadDamaged(StillreelError):
    pass


class WaitTimedOut(StillreelError):
    """The job goes on; `job` is its last known state."""

    def __init__(self, message: str, job: "Job") -> None:
        super().__init__(message)
        self.job = job


class JobNotSucceeded(StillreelError):
    """`job` has the reason."""

    def __init__(self, message: str, job: "Job") -> None:
        super().__init__(message)
        self.job = job


class JobFailed(JobNotSucceeded):
    pass


class JobCanceled(JobNotSucceeded):
    pass


class Refused(StillreelError):
    """The service's own answer: `code` is stable, `param` names the field if there is one."""

    def __init__(self, message: str, answer: Answer, problem: dict[str, Any]) -> None:
        super().__init__(message)
        self.status = answer.status
        self.code = str(problem.get("code") or "")
        self.param: str | None = problem.get("param")
        self.request_id: str | None = problem.get("request_id")
        self.retry_after_seconds = _seconds(answer.headers.get("retry-after"))
        self.forbids_retry = answer.headers.get("x-should-retry") == "false"


class InvalidRequest(Refused):
    pass


class NotAuthenticated(Refused):
    pass


class Forbidden(Refused):
    pass


class NotFound(Refused):
    pass


class Conflict(Refused):
    pass


class TooMany(Refused):
    pass


class Unavailable(Refused):
    pass


KINDS: Final[dict[int, type[Refused]]] = {
    401: NotAuthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    429: TooMany,
}


def refusal(answer: Answer) -> Refused:
    """Return the error for an answer of 400 and more."""
    try:
        problem = json.loads(answer.body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"detail": f"answered {answer.status}, and not in JSON; is it Stillreel?"}
    said = problem.get("detail") or problem.get("title") or f"answered {answer.status}"
    kind = KINDS.get(answer.status, Unavailable if answer.status >= 500 else InvalidRequest)
    return kind(str(said), answer, problem)


def _seconds(retry_after: str | None) -> float | None:
    """Return the header's seconds; a date, which Stillreel never sends, counts as none."""
    try:
        return max(0.0, float(retry_after or ""))
    except ValueError:
        return None
