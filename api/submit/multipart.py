"""Forms with files, as browsers and tools send them: `multipart/form-data`.

Starlette reads them. What is added is for tools that leave something out: a name of the file, a
file, or the end of the form.
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
from api.images.sniff import looks_like
from api.submit.images import SINGLE
from shared.errors import InvalidRequest
from shared.excerpt import begin, excerpt

MAX_FILES: Final = 20
"""Parts that may be files, empty ones too."""

_NAMED_FILE: Final = re.compile(rb";\s*filename=", re.IGNORECASE)
_MAY_BE_FILE: Final = re.compile(
    rf";\s*(filename\*|name=\"?(?:{'|'.join(SINGLE)})\"?\s*(;|$))".encode(), re.IGNORECASE
)
_UNNAMED: Final = b'; filename=""'
_NO_BOUNDARY: Final = "Missing boundary in multipart."


@dataclass(frozen=True)
class Form:
    """The texts of a form in their order, and its files by their names."""

    pairs: Sequence[tuple[str, str]]
    files: Mapping[str, bytes]


async def read_multipart(
    request: Request, reservation: Reservation, *, max_fields: int, max_text_bytes: int
) -> Form:
    """Return a form; while it arrives, what is large of it lies in files.

    Raises:
        InvalidRequest: it is malformed, cut off, or has a file twice.
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
            raise InvalidRequest(f"the form cannot be read: {_hint(error.message)}") from error
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


def _hint(message: str) -> str:
    if message == _NO_BOUNDARY:
        return "its Content-Type names no boundary; let your HTTP client write that header itself"
    return message


class _Reader(MultiPartParser):
    """Takes any part for a file that may be one, and notes whether the form has an end."""

    is_whole = False
    has_begun = False

    def on_part_begin(self) -> None:
        self.has_begun = True
        super().on_part_begin()

    def on_headers_finished(self) -> None:
        part = self._current_part
        disposition = part.content_disposition or b""
        if not _NAMED_FILE.search(disposition) and _MAY_BE_FILE.search(disposition):
            # A picture in a part without a file name would be read as a text.
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
        if not value.size:  # A page's file input that nobody filled is sent all the same.
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
    """Return what a part without a file name says, if it is no file."""
    if looks_like(body) is not None or b"\0" in body:
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
