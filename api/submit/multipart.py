"""Forms with files, as browsers and tools send them: `multipart/form-data`.

Starlette reads them. This module adds support for tools that leave something out: the name of a
file, a file, or the end of the form.
"""

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from api.concurrency.body_memory import Reservation
from api.images.sniff import VALUES, looks_like
from api.submit.images import PARTS
from shared.errors import InvalidRequest
from shared.excerpt import begin, excerpt

MAX_FILES: Final = 20
"""Parts that may be files, also empty ones."""

_NAMED_FILE: Final = re.compile(rb";\s*filename=", re.IGNORECASE)
_MAY_BE_FILE: Final = re.compile(
    rf";\s*(filename\*|name=\"?(?:{'|'.join(PARTS)})\"?\s*(;|$))".encode(), re.IGNORECASE
)
_UNNAMED: Final = b'; filename=""'
_HINTS: Final = {
    "Missing boundary in multipart.": (
        "its Content-Type names no boundary; let your HTTP client write that header itself"
    ),
    "Invalid multipart data.": (
        "its first line is not the boundary that its Content-Type names, a line does not end in"
        " CR LF, or a part has headers that are too long; let your HTTP client write the form and"
        " its Content-Type together"
    ),
    'The Content-Disposition header field "name" must be provided.': (
        'a part has no name; each begins with Content-Disposition: form-data; name="image" or the'
        " like"
    ),
}
"""What the reader's words mean to whoever sent the form."""


@dataclass(frozen=True)
class Form:
    """The texts of a form in order, and its files by name."""

    pairs: Sequence[tuple[str, str]]
    files: Mapping[str, bytes]


async def read_multipart(
    request: Request, reservation: Reservation, *, max_fields: int, max_text_bytes: int
) -> Form:
    """Return a form; while it arrives, its large parts are in files.

    Raises:
        InvalidRequest: the form is malformed, cut off, or has a file twice.
        Busy: too many bodies are in memory.
    """
    async with aclosing(_pieces(request)) as stream:
        reader = _Reader(
            request.headers,
            stream,
            max_files=MAX_FILES,
            max_fields=max_fields,
            max_part_size=max_text_bytes,
        )
        try:
            form = await reader.parse()
        except MultiPartException as error:
            hint = _HINTS.get(error.message, error.message)
            raise InvalidRequest(f"the form cannot be read: {hint}") from error
    try:
        if not reader.is_whole and reader.has_begun:
            raise InvalidRequest(
                "the form is cut off: it ends before its closing boundary; send it again, whole"
            )
        return await _taken(form.multi_items(), reservation)
    finally:
        await form.close()


async def _pieces(request: Request) -> AsyncGenerator[bytes, None]:
    async for piece in request.stream():
        yield piece


class _Reader(MultiPartParser):
    """Treats any part as a file that may be one, and notes whether the form has an end."""

    is_whole = False
    has_begun = False

    def on_part_begin(self) -> None:
        self.has_begun = True
        super().on_part_begin()

    def on_headers_finished(self) -> None:
        part = self._current_part
        disposition = part.content_disposition or b""
        if not _NAMED_FILE.search(disposition) and _MAY_BE_FILE.search(disposition):
            # An image in a part without a file name would be read as a text.
            part.content_disposition = disposition + _UNNAMED
        super().on_headers_finished()

    def on_end(self) -> None:
        self.is_whole = True


async def _taken(parts: Sequence[tuple[str, str | UploadFile]], reservation: Reservation) -> Form:
    pairs: list[tuple[str, str]] = []
    files: dict[str, bytes] = {}
    for name, value in parts:
        if isinstance(value, str):
            await reservation.grow(len(value))
            pairs.append((name, value))
            continue
        if not value.size:  # Browsers also send a file input that was left empty.
            continue
        await reservation.grow(value.size)
        body = await value.read()
        text = None if value.filename else _text(body)
        if text is not None:
            pairs.append((name, text))
        elif name in files:
            raise InvalidRequest(
                f"the file part {excerpt(name)} is sent twice; send it once", param=begin(name)
            )
        else:
            files[name] = body
    return Form(pairs, files)


def _text(body: bytes) -> str | None:
    """Return the text of a part without a file name, if it is not a file."""
    if looks_like(body) not in {None, *VALUES} or b"\0" in body:
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
