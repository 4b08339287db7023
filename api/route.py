"""Every route's behaviour: bodies have a limit, JSON is read off the loop, owners take turns."""

from collections.abc import Callable, Coroutine
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, get_args

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive

from api.body_limit import BodyLimit, body_limit, declared_bytes
from api.concurrency.database_turn import in_turn
from api.ports import Ports
from api.submit.json_body import is_json, read_json
from api.validation_messages import explain
from shared.errors import UnsupportedBody
from shared.excerpt import excerpt


class Route(APIRoute):
    """Refuses a body by its declared length, or as soon as it has grown too long.

    A JSON body is parsed and checked in a thread, within the bounds of `read_json`. What FastAPI
    then does with it on the loop is only the work for a good body.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if not iscoroutinefunction(self.endpoint):
            handle = in_turn(handle)  # An `async def` handler takes its turn where it needs one.

        async def bounded(request: Request) -> Response:
            ports: Ports = request.app.state.ports
            _check_is_plain(request.headers)
            limit = body_limit(self.endpoint, ports.settings)
            if declared_bytes(request.headers) > limit.bytes:
                raise limit.refusal()
            arriving = _Arriving(request.scope, _counted(request.receive, limit))
            if self.body_field is not None and await arriving.body():
                _check_is_json(request.headers)
                read = partial(self._read, await arriving.body())
                owner_id = request.scope["state"]["caller"].owner_id
                arriving.value = await ports.pools.parsing.run(read, owner_id=owner_id)
            return await handle(arriving)

        return bounded

    def _read(self, body: bytes) -> Any:
        """Return the value of a JSON body, which its model takes.

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

    async def json(self) -> Any:
        return self.value


def _counted(receive: Receive, limit: BodyLimit) -> Receive:
    """Return a `receive` that stops a body which has grown too long."""
    arrived = 0

    async def receive_some() -> Message:
        nonlocal arrived
        message = await receive()
        arrived += len(message.get("body", b""))
        if arrived > limit.bytes:
            raise limit.refusal()
        return message

    return receive_some


def _check_is_plain(headers: Headers) -> None:
    """Refuse a compressed body, because its length does not limit what it unpacks to."""
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in {"", "identity"}:
        raise UnsupportedBody(
            f"the body is sent with Content-Encoding: {excerpt(coding)}; send it uncompressed,"
            " without that header",
            param="Content-Encoding",
        )


def _check_is_json(headers: Headers) -> None:
    if not is_json(headers.get("content-type", "")):
        raise UnsupportedBody("send application/json", param="Content-Type")


def _names(annotation: Any) -> tuple[str, ...]:
    """Return the names that a body of this type may have."""
    models = [each for each in (annotation, *get_args(annotation)) if isinstance(each, type)]
    return tuple(
        name for each in models if issubclass(each, BaseModel) for name in each.model_fields
    )
