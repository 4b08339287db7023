"""Who is asking: while no key exists, everybody is the one anonymous owner."""

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends

from shared.tables import ANONYMOUS


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Whoever a request is answered for; every query names its `owner_id`.

    `name` is the public part of the key, or `anonymous`: one for each key, good for counting and
    for logs. Every admin has the one house owner's jobs. Caps are None where the settings' count.
    """

    owner_id: UUID
    name: str
    is_admin: bool = False
    max_queued: int | None = None
    max_running: int | None = None


async def authenticate() -> Caller:
    return Caller(owner_id=ANONYMOUS, name="anonymous")


Authenticated = Annotated[Caller, Depends(authenticate)]
