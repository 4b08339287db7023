"""The ids of rows, and how they are written outside."""

import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import uuid_utils

from shared.errors import InvalidRequest, NotFound

_HEX: Final = re.compile("[0-9a-fA-F]{32}")


def new_id() -> UUID:
    """Return a uuid7: ids sort by the time they were drawn."""
    return UUID(int=uuid_utils.uuid7().int)


@dataclass(frozen=True)
class PublicId:
    """How the ids of one kind of row are written outside: `job_` and 32 hex digits.

    `missing` is what a client is told of an id that it has no row for.
    """

    prefix: str
    missing: str

    def show(self, row_id: UUID) -> str:
        return f"{self.prefix}{row_id.hex}"

    def parse(self, text: object) -> UUID:
        """Return the id inside.

        Raises:
            NotFound: it is no such id; the same answer as for a row that does not exist.
        """
        if not isinstance(text, str) or not text.startswith(self.prefix):
            raise self.not_found()
        digits = text.removeprefix(self.prefix)
        if not _HEX.fullmatch(digits):
            raise self.not_found()
        return UUID(hex=digits)

    def parse_query(self, text: str | None, param: str, *, wrong: str) -> UUID | None:
        """Return the id inside a query's value, or None where the query has none.

        Raises:
            InvalidRequest: it is no such id; `wrong` says so.
        """
        if text is None:
            return None
        try:
            return self.parse(text)
        except NotFound as error:
            raise InvalidRequest(wrong, param=param) from error

    def not_found(self) -> NotFound:
        """Return the one answer for foreign, deleted, malformed and missing ids."""
        return NotFound(self.missing)
