"""Plain `def` handlers, each in its owner's turn at the database."""

from collections.abc import Callable, Coroutine
from inspect import iscoroutinefunction
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class DatabaseRoute(APIRoute):
    """A route whose plain handler takes a turn; `async def` ones take their own where they ask."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        return handle if iscoroutinefunction(self.endpoint) else _in_turn(handle)


def _in_turn(handle: Handler) -> Handler:
    async def handle_in_turn(request: Request) -> Response:
        scope = request.scope
        await request.body()  # A body that trickles holds no turn while it arrives.
        pool = scope["app"].state.ports.pools.database
        async with pool.turn(scope["state"]["caller"].owner_id):
            return await handle(request)

    return handle_in_turn
