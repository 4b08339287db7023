"""The ids of rows, and how clients write them."""

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
    """How clients write the ids of one kind of row: `job_` and 32 hex digits.

    `missing` is the message for an id that has no row.
    """

    prefix: str
    missing: str

    def show(self, row_id: UUID) -> str:
        return f"{self.prefix}{row_id.hex}"

    def parse(self, text: object) -> UUID:
        """Return the id inside.

        Raises:
            NotFound: it is not such an id; the answer is the same as for a row that does not
                exist.
        """
        if not isinstance(text, str) or not text.startswith(self.prefix):
            raise self.not_found()
        digits = text.removeprefix(self.prefix)
        if not _HEX.fullmatch(digits):
            raise self.not_found()
        return UUID(hex=digits)

    def parse_query(self, text: str | None, param: str, *, wrong: str) -> UUID | None:
        """Return the id inside a query's value, or None if the query has none.

        Raises:
            InvalidRequest: it is not such an id; `wrong` is the message.
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
