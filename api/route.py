"""What every route does with a request's body: a limit, and JSON that is read off the loop."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar, get_args

from fastapi.datastructures import Headers
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope

from api.deps import Ports
from api.json_text import read_json
from api.wording import explain
from shared.errors import BodyTooLarge, UnsupportedBody
from shared.settings import Settings

SMALL_BODY_BYTES: Final = 64 * 1024
"""What a route takes that says nothing else: a thousand times what the largest of them needs."""

FORM_SLACK_BYTES: Final = 1024 * 1024
"""What a body may hold beside its picture: fields, boundaries, headers of parts."""

_MOST_DIGITS: Final = 20

_Handler = TypeVar("_Handler", bound=Callable[..., Any])


@dataclass(frozen=True)
class BodyLimit:
    """How many bytes a route's body may have, and what its client might send less of."""

    bytes: int
    remedy: str

    def refusal(self) -> BodyTooLarge:
        return BodyTooLarge(f"the request's body is larger than {self.bytes} bytes; {self.remedy}")


SMALL: Final = BodyLimit(SMALL_BODY_BYTES, "this takes no more")


def takes_picture(handler: _Handler) -> _Handler:
    """Let a route's body hold a picture: MAX_UPLOAD_BYTES, and room for the rest of a form."""
    handler.__dict__["takes_picture"] = True
    return handler


def body_limit(endpoint: Callable[..., Any], settings: Settings) -> BodyLimit:
    """Return the limit that a handler declares."""
    if not getattr(endpoint, "takes_picture", False):
        return SMALL
    return BodyLimit(settings.max_upload_bytes + FORM_SLACK_BYTES, "send a smaller image")


class Route(APIRoute):
    """Refuses a body by its declared length, or as soon as it has grown too long.

    A JSON body is parsed and checked in a thread, within the bounds of `read_json`: what FastAPI
    then does with it on the loop is the work that a good body takes.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            ports: Ports = request.app.state.ports
            limit = body_limit(self.endpoint, ports.settings)
            if declared_bytes(request.headers) > limit.bytes:
                raise limit.refusal()
            arriving = _Arriving(request.scope, _counted(request.receive, limit))
            if self.body_field is not None and await arriving.body():
                _check_is_json(request.headers)
                read = partial(self._read, await arriving.body())
                arriving.value = await ports.lanes.parsing.run(read)
            return await handle(arriving)

        return bounded

    def _read(self, body: bytes) -> Any:
        """Return what a JSON body says, which its model takes.

        Raises:
            InvalidRequest: it does not.
        """
        assert self.body_field is not None
        value = read_json(body, "the body")
        errors = self.body_field.validate(value, {}, loc=("body",))[1]
        if errors:
            raise explain(errors, _names(self.body_field.field_info.annotation))
        return value


class _Arriving(Request):
    """A request whose JSON was read elsewhere."""

    value: Any = None

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(scope, receive)

    async def json(self) -> Any:
        return self.value


def declared_bytes(headers: Headers) -> int:
    """Return what Content-Length says; more digits than any length has say "too long"."""
    digits = headers.get("content-length", "").lstrip("0")
    return int(digits[:_MOST_DIGITS]) if digits.isdecimal() else 0


def _counted(receive: Receive, limit: BodyLimit) -> Receive:
    """Return a `receive` that cuts a body off where it has grown too long."""
    arrived = 0

    async def receive_some() -> Message:
        nonlocal arrived
        message = await receive()
        arrived += len(message.get("body", b""))
        if arrived > limit.bytes:
            raise limit.refusal()
        return message

    return receive_some


def _check_is_json(headers: Headers) -> None:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (
        kind.startswith("application/") and kind.endswith("+json")
    ):
        raise UnsupportedBody("send application/json", param="Content-Type")


def _names(annotation: Any) -> tuple[str, ...]:
    """Return the names that a body of this type may have."""
    models = [each for each in (annotation, *get_args(annotation)) if isinstance(each, type)]
    return tuple(
        name for each in models if issubclass(each, BaseModel) for name in each.model_fields
    )
