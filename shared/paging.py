"""Pages of listings: the page asked for, and the page found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Cut:
    """The part of a listing that is asked for."""

    limit: int
    after: UUID | None = None
    newest_first: bool = True


@dataclass(frozen=True)
class Page(Generic[T]):
    """Items in the order asked for; `has_more` says whether more items follow."""

    items: Sequence[T]
    has_more: bool

    @classmethod
    def of(cls, found: Sequence[T], cut: Cut) -> "Page[T]":
        """Return the page of a statement's result that asked for one item more."""
        return Page(found[: cut.limit], has_more=len(found) > cut.limit)
