"""The actions that a call asks of the outside.

A call is a generator of these steps and does nothing by itself. `transport.py` performs the steps,
once with blocking sockets and once with asyncio, so that both clients share one body of code.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Request:
    """A request to the service; `path` begins with a slash."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] | None = None
    file: tuple[str, bytes] | None = None
    json: Any = None
    read_seconds: float = 30.0


@dataclass(frozen=True)
class Answer:
    """An answer; the names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Send:
    """Send a request; the reply is an `Answer` with its whole body."""

    request: Request


@dataclass(frozen=True)
class Open:
    """Send a request and keep its body for `Read`, unless the answer is an error."""

    request: Request


@dataclass(frozen=True)
class Read:
    """Read on; the reply is the next bytes, b"" at the end."""


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Found(Generic[T_co]):
    """Give a value to the caller's iteration."""

    value: T_co


Step = Send | Open | Read | Pause
Reply = Answer | bytes | None
Steps = Generator[Step, Reply, T]
"""A call with one result."""
Iteration = Generator[Step | Found[T], Reply, None]
"""A call with many results."""


def once(request: Request) -> Steps[Answer]:
    answer = yield Send(request)
    assert isinstance(answer, Answer)
    return answer


def opened(request: Request) -> Steps[Answer]:
    answer = yield Open(request)
    assert isinstance(answer, Answer)
    return answer


def chunk() -> Steps[bytes]:
    body = yield Read()
    assert isinstance(body, bytes)
    return body
