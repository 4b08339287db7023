"""The HTTP client of downloads, the only one that uses the operator's proxy."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import httpx2

from shared.errors import MissingWeights

TIMEOUT: Final = httpx2.Timeout(15, connect=10)
PAUSES: Final = (0.5, 1.0, 2.0, 4.0)
"""The seconds before each new try of a request that got no answer."""

BUSY: Final = frozenset({408, 429, 500, 502, 503, 504})


Answer = TypeVar("Answer")


class Unanswered(Exception):
    """There was no answer, or one that asks to come later; a new try may succeed."""


class Refused(Exception):
    """The answer is an error that a new try would get again."""

    def __init__(self, response: httpx2.Response) -> None:
        super().__init__(f"HTTP {response.status_code}")
        self.response = response


class Web:
    """One client for all the connections of a download; `headers` go to `endpoint` only."""

    def __init__(
        self, endpoint: str, headers: Mapping[str, str], *, pauses: Sequence[float] = PAUSES
    ) -> None:
        """Open no connection yet.

        Raises:
            MissingWeights: the environment's proxy cannot be used.
        """
        self.pauses = pauses
        try:
            # The library drops an Authorization header at a redirect to another host.
            self._client = httpx2.Client(
                timeout=TIMEOUT, follow_redirects=True, headers={"Accept-Encoding": "identity"}
            )
        except (ValueError, ImportError) as error:
            raise MissingWeights(
                "the weights cannot be downloaded: the proxy that HTTPS_PROXY, HTTP_PROXY or"
                " ALL_PROXY names cannot be used; write it like"
                " http://proxy.example.org:3128"
            ) from error
        self._headers = dict(headers)
        self._endpoint = endpoint

    def get_json(
        self, url: str, params: Mapping[str, str] | None = None
    ) -> tuple[Any, str | None]:
        """Return the JSON of an answer, and the URL of its next page or None.

        Raises:
            Unanswered, Refused.
        """
        return self.tried(lambda: self._get_json(url, params))

    def _get_json(self, url: str, params: Mapping[str, str] | None) -> tuple[Any, str | None]:
        with self.stream(url, params=params) as response:
            try:
                response.read()
                return response.json(), response.links.get("next", {}).get("url")
            except httpx2.HTTPError as error:
                raise Unanswered(type(error).__name__) from error
            except ValueError as error:
                raise Refused(response) from error

    @contextmanager
    def stream(
        self,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[httpx2.Response]:
        """Yield an answer with a good status, whose body was not read yet.

        Raises:
            Unanswered, Refused.
        """
        own = self._headers if url.startswith(f"{self._endpoint}/") else {}
        asked = {**own, **(headers or {})}
        try:
            with self._client.stream("GET", url, params=params, headers=asked) as response:
                if response.status_code in BUSY:
                    raise Unanswered(f"HTTP {response.status_code}")
                if response.status_code >= 300 and response.status_code != 416:
                    response.read()  # Its text decides which message the reader gets.
                    raise Refused(response)
                yield response
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise Unanswered(type(error).__name__) from error

    def tried(self, ask: Callable[[], Answer]) -> Answer:
        """Return the result of `ask`, tried again after a pause while there is no answer."""
        for pause in self.pauses:
            try:
                return ask()
            except Unanswered:
                time.sleep(pause)
        return ask()

    def close(self) -> None:
        self._client.close()
