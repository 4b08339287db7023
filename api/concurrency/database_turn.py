"""Makes a plain `def` handler take its owner's turn at the database."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def in_turn(handle: Handler) -> Handler:
    """Return the handler with a turn around it; public paths have no owner and take no turn."""

    async def handle_in_turn(request: Request) -> Response:
        scope = request.scope
        caller = scope["state"].get("caller")
        if caller is None:
            return await handle(request)
        await request.body()  # A slowly arriving body holds no turn while it arrives.
        async with scope["app"].state.ports.pools.database.turn(caller.owner_id):
            return await handle(request)

    return handle_in_turn
