"""A page of a listing as clients see it."""

from typing import Generic, Literal, Protocol, Self, TypeVar, cast

from pydantic import BaseModel

V = TypeVar("V")


class HasId(Protocol):
    """An item that can be in a listing."""

    @property
    def id(self) -> str: ...


class ListOf(BaseModel, Generic[V]):
    """One page of a listing; the next one starts `after` its `last_id`."""

    object: Literal["list"] = "list"
    data: list[V]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, views: list[V], *, has_more: bool) -> Self:
        first, last = (cast(HasId, views[end]).id if views else None for end in (0, -1))
        return cls(data=views, first_id=first, last_id=last, has_more=has_more)
