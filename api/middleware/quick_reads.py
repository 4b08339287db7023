"""The most frequent reads, answered before the framework reads the request.

To find the route among all routes and to resolve its dependencies takes FastAPI longer than such
an answer. Each has its route all the same. That route describes it in OpenAPI and answers requests
with a query, a body or a special header.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import problem_response
from shared.errors import AppError

OF_A_BODY: Final = frozenset({b"content-length", b"transfer-encoding", b"content-encoding"})


@dataclass(frozen=True)
class QuickRead:
    """`path` is the route's template, whose one parameter, if any, is its last part.

    `answer` gets that part and the query; `query` matches the queries that it knows.
    """

    path: str
    answer: Callable[[Scope, str, str], Awaitable[Response]]
    query: re.Pattern[str] = re.compile("")

    @property
    def has_parameter(self) -> bool:
        return self.path.endswith("}")

    @property
    def folder(self) -> str:
        """The beginning of the paths that this answers, or the whole path."""
        return self.path.rpartition("/")[0] if self.has_parameter else self.path


class QuickReads:
    """Comes after the authentication, so each request has its caller by now."""

    def __init__(self, app: ASGIApp, *, reads: Sequence[QuickRead]) -> None:
        self._app = app
        self._items = {read.folder: read for read in reads if read.has_parameter}
        self._whole = {read.path: read for read in reads if not read.has_parameter}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = scope["query_string"].decode("latin-1") if scope["type"] == "http" else ""
        read, last = self._find(scope, query)
        if read is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = read
        try:
            answer = await read.answer(scope, last, query)
        except AppError as error:
            answer = problem_response(error, scope)
        await answer(scope, receive, send)

    def _find(self, scope: Scope, query: str) -> tuple[QuickRead | None, str]:
        if scope["type"] != "http" or scope["method"] != "GET":
            return None, ""
        path: str = scope["path"]
        folder, _, last = path.rpartition("/")
        read = self._whole.get(path) or (self._items.get(folder) if last else None)
        if (
            read is None
            or not read.query.fullmatch(query)
            or any(name in OF_A_BODY for name, _ in scope["headers"])
        ):
            return None, ""
        return read, last
