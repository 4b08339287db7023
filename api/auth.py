"""Who is asking: while no key exists, everybody is the one anonymous owner."""

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends

from shared.tables import ANONYMOUS


@dataclass(frozen=True)
class Caller:
    """Whoever a request is answered for; every query names its `owner_id`."""

    owner_id: UUID


async def authenticate() -> Caller:
    return Caller(ANONYMOUS)


Authenticated = Annotated[Caller, Depends(authenticate)]
