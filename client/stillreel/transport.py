"""Performs the steps of a call over HTTP: `BlockingTransport` waits, `AsyncTransport` awaits."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx2

from stillreel.address import Address
from stillreel.errors import ConnectionFailed, WrongAddress
from stillreel.steps import Answer, Found, Iteration, Open, Pause, Read, Reply, Request, Send, Step
from stillreel.steps import Steps as Call

T = TypeVar("T")

CONNECT_SECONDS: Final = 10.0
WRITE_SECONDS: Final = 60.0
NEVER_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class BlockingTransport:
    """One HTTP client; threads may share it."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._http = _made(httpx2.Client, address)

    def call(self, steps: Call[T]) -> T:
        """Perform a call and return its result."""
        stream = _BlockingStream(self._http, self._address)
        try:
            step = next(steps)
            while True:
                try:
                    reply = stream.play(step)
                except ConnectionFailed as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            steps.close()
            stream.close()

    def iterate(self, steps: Iteration[T]) -> Iterator[T]:
        """Perform a call and yield its results as they come."""
        stream = _BlockingStream(self._http, self._address)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Found):
                    yield step.value
                    step = steps.send(None)
                    continue
                try:
                    reply = stream.play(step)
                except ConnectionFailed as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration:
            return
        finally:
            steps.close()
            stream.close()

    def close(self) -> None:
        self._http.close()


class AsyncTransport:
    """One HTTP client; tasks of one event loop may share it."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._http = _made(httpx2.AsyncClient, address)

    async def call(self, steps: Call[T]) -> T:
        """Perform a call and return its result."""
        async with aclosing(_AsyncStream(self._http, self._address)) as stream:
            try:
                step = next(steps)
                while True:
                    try:
                        reply = await stream.play(step)
                    except ConnectionFailed as error:
                        step = steps.throw(error)
                    else:
                        step = steps.send(reply)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                steps.close()

    async def iterate(self, steps: Iteration[T]) -> AsyncIterator[T]:
        """Perform a call and yield its results as they come."""
        async with aclosing(_AsyncStream(self._http, self._address)) as stream:
            try:
                step = next(steps)
                while True:
                    if isinstance(step, Found):
                        yield step.value
                        step = steps.send(None)
                        continue
                    try:
                        reply = await stream.play(step)
                    except ConnectionFailed as error:
                        step = steps.throw(error)
                    else:
                        step = steps.send(reply)
            except StopIteration:
                return
            finally:
                steps.close()

    async def close(self) -> None:
        await self._http.aclose()


class _BlockingStream:
    """Performs single steps, and holds the body that `Open` left open."""

    def __init__(self, http: httpx2.Client, address: Address) -> None:
        self._http, self._address = http, address
        self._open: httpx2.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def play(self, step: Step) -> Reply:
        with _Translated(self._address):
            match step:
                case Pause(seconds):
                    time.sleep(seconds)
                    return None
                case Send(request):
                    sent = _request(self._http, request)
                    return _answer(self._http.send(sent))
                case Open(request):
                    return self._opened(request)
                case Read():
                    return next(self._chunks, b"")

    def _opened(self, request: Request) -> Answer:
        self.close()
        sent = _request(self._http, request)
        response = self._http.send(sent, stream=True, follow_redirects=True)
        self._open = response
        if response.status_code >= 400:
            response.read()
        else:
            self._chunks = response.iter_bytes()
        return _answer(response, has_body=response.status_code >= 400)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


class _AsyncStream:
    """Performs single steps, and holds the body that `Open` left open."""

    def __init__(self, http: httpx2.AsyncClient, address: Address) -> None:
        self._http, self._address = http, address
        self._open: httpx2.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def play(self, step: Step) -> Reply:
        with _Translated(self._address):
            match step:
                case Pause(seconds):
                    await asyncio.sleep(seconds)
                    return None
                case Send(request):
                    sent = _request(self._http, request)
                    return _answer(await self._http.send(sent))
                case Open(request):
                    return await self._opened(request)
                case Read():
                    assert self._chunks is not None
                    return await anext(self._chunks, b"")

    async def _opened(self, request: Request) -> Answer:
        await self.aclose()
        sent = _request(self._http, request)
        response = await self._http.send(sent, stream=True, follow_redirects=True)
        self._open = response
        if response.status_code >= 400:
            await response.aread()
        else:
            self._chunks = response.aiter_bytes()
        return _answer(response, has_body=response.status_code >= 400)

    async def aclose(self) -> None:
        if self._open is not None:
            await self._open.aclose()
            self._open = None


class _Translated:
    """Turns the errors of the HTTP library into ours."""

    def __init__(self, address: Address) -> None:
        self._url = address.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(error, httpx2.RequestError):
            return
        said = str(error) or type(error).__name__
        if isinstance(error, NEVER_SENT):
            raise ConnectionFailed(
                f"nothing answers at {self._url} ({said}); start Stillreel there, or set"
                " STILLREEL_URL to its address",
                was_sent=False,
            ) from error
        if isinstance(error, httpx2.TimeoutException):
            raise ConnectionFailed(f"{self._url} took too long to answer ({said})") from error
        raise ConnectionFailed(f"the connection to {self._url} broke ({said})") from error


Http = TypeVar("Http", httpx2.Client, httpx2.AsyncClient)


def _made(kind: type[Http], address: Address) -> Http:
    headers = {"User-Agent": "stillreel-python"}
    if address.key is not None:
        headers["Authorization"] = f"Bearer {address.key}"
    try:
        # A proxy of the environment cannot reach an address that only this machine can reach.
        return kind(base_url=address.url, headers=headers, trust_env=not address.is_this_machine)
    except httpx2.InvalidURL as error:
        raise WrongAddress(f"{address.url!r} is not an address: {error}") from error


def _request(http: httpx2.Client | httpx2.AsyncClient, request: Request) -> httpx2.Request:
    body: dict[str, Any] = {}
    if request.file is not None:
        name, content = request.file
        body["files"] = {"image": (name, content, "application/octet-stream")}
    if request.form is not None:
        body["data"] = dict(request.form)
    if request.json is not None:
        body["json"] = request.json
    return http.build_request(
        request.method,
        request.path,
        params=dict(request.params) or None,
        headers=dict(request.headers),
        timeout=httpx2.Timeout(
            connect=CONNECT_SECONDS,
            read=request.read_seconds,
            write=WRITE_SECONDS,
            pool=request.read_seconds,
        ),
        **body,
    )


def _answer(response: httpx2.Response, *, has_body: bool = True) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, response.content if has_body else b"")
