"""Forms with files, as browsers and tools send them: `multipart/form-data`.

Starlette reads them. This module adds support for tools that leave something out: the name of a
file, a file, or the end of the form.
"""

import base64
import quopri
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from api.concurrency.body_memory import Reservation
from api.images.sniff import VALUES, looks_like
from api.submit.charsets import check_charset, is_utf_8, readable
from api.submit.images import PARTS
from shared.errors import InvalidRequest
from shared.excerpt import begin, excerpt

MAX_FILES: Final = 20
"""Parts that may be files, also empty ones."""

MAX_PREAMBLE: Final = 8 * 1024
HEAD_BYTES: Final = 4096
FILE_NAMES: Final = (
    *(*PARTS, "images", "file", "content"),
    *("input_reference", "image_reference", "reference_url", "image_url"),
    *("input_image", "start_image", "first_frame_image"),
)
"""Parts that hold a file, by our own names and by those of other protocols."""

_NAMED_FILE: Final = re.compile(rb";\s*filename\s*=", re.IGNORECASE)
_OF_FILE: Final = rf";\s*name=\"?(?:{'|'.join(FILE_NAMES)})(?:\[\])?\"?\s*(?:;|$)"
_MAY_BE_FILE: Final = re.compile(rf";\s*filename\*|{_OF_FILE}".encode(), re.IGNORECASE)
_UNNAMED: Final = b'; filename=""'
_WORDS: Final = ("text/plain", "application/json")
_CODED: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "base64": base64.b64decode,
    "quoted-printable": quopri.decodestring,
}
"""What writers of mail do with the bytes of a part (RFC 2045); browsers do nothing."""

_HINTS: Final = {
    "Missing boundary in multipart.": (
        "its Content-Type names no boundary; let your HTTP client write that header itself"
    ),
    "Invalid multipart data.": (
        "its first line is not the boundary that its Content-Type names, a line does not end in"
        " CR LF, or a part has headers that are too long or that go on in a second line; let your"
        " HTTP client write the form and its Content-Type together"
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
    form = await arrived(
        request, max_files=MAX_FILES, max_fields=max_fields, max_text_bytes=max_text_bytes
    )
    try:
        return await _taken(form.multi_items(), reservation)
    finally:
        await form.close()


async def arrived(
    request: Request,
    *,
    max_files: int,
    max_fields: int,
    max_text_bytes: int,
    in_memory_bytes: int = MultiPartParser.spool_max_size,
) -> FormData:
    """Return the parts of a form that has arrived whole; the caller closes it.

    Raises:
        InvalidRequest: the form is malformed or cut off.
    """
    async with aclosing(_pieces(request)) as stream:
        reader = _Reader(
            request.headers,
            stream,
            max_files=max_files,
            max_fields=max_fields,
            max_part_size=max_text_bytes,
        )
        reader.spool_max_size = in_memory_bytes
        try:
            form = await reader.parse()
        except MultiPartException as error:
            hint = _HINTS.get(error.message, error.message)
            raise InvalidRequest(f"the form cannot be read: {hint}") from error
    if not reader.is_whole and reader.has_begun:
        reader.close()
        raise InvalidRequest(
            "the form is cut off: it ends before its closing boundary; send it again, whole"
        )
    return form


async def text_of(name: str, part: UploadFile) -> str | None:
    """Return the text of a part that might be a file; None if it is one.

    Raises:
        InvalidRequest: its text is in a charset that is not read.
    """
    kind, _, options = part.headers.get("content-type", "").lower().partition(";")
    are_words = kind.strip() in _WORDS and name.removesuffix("[]") not in FILE_NAMES
    if part.filename and not are_words:
        return None
    if are_words:
        check_charset(options, what=begin(name), param=name)
    head = await part.read(HEAD_BYTES)
    await part.seek(0)
    if looks_like(head) not in {None, *VALUES} or b"\0" in head:
        return None
    body = await part.read()
    await part.seek(0)
    body = decoded(name, part, body)
    return readable(body, options) if are_words else _text(body)


def decoded(name: str, part: UploadFile, body: bytes) -> bytes:
    """Return a part's bytes as they were before its writer made letters of them.

    Raises:
        InvalidRequest: they are not what its Content-Transfer-Encoding says.
    """
    coding = part.headers.get("content-transfer-encoding", "").strip().lower()
    try:
        return _CODED[coding](body) if coding in _CODED else body
    except ValueError as error:
        raise InvalidRequest(
            f"{begin(name)} is not valid {coding}, as its Content-Transfer-Encoding says; send the"
            " bytes as they are, without that header",
            param=begin(name),
        ) from error


async def _pieces(request: Request) -> AsyncGenerator[bytes, None]:
    """Yield a form from its first boundary on; writers of mail put a note before it (RFC 2046)."""
    _, options = parse_options_header(request.headers["content-type"])
    first = b"--" + options.get(b"boundary", b"")
    note: bytes | None = b""
    async for piece in request.stream():
        if note is None:
            yield piece
            continue
        note += piece
        at = 0 if note.startswith(first) else note.find(b"\n" + first) + 1
        if at or note.startswith(first) or len(note) > MAX_PREAMBLE:
            yield note[at:]
            note = None
    if note:
        yield note


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
        is_named = _NAMED_FILE.search(disposition)
        if not is_named and (_MAY_BE_FILE.search(disposition) or _needs_care(part.item_headers)):
            # An image in a part without a file name would be read as a text.
            part.content_disposition = disposition + _UNNAMED
        super().on_headers_finished()

    def on_end(self) -> None:
        self.is_whole = True

    def close(self) -> None:
        """Close the files of all parts, also of one that did not end."""
        for file in self._files_to_close_on_error:
            file.close()


def _needs_care(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Say whether a part is anything else than a text in UTF-8."""
    said = {name: value.decode("latin-1").strip().lower() for name, value in headers}
    kind, _, options = said.get(b"content-type", "").partition(";")
    return (
        said.get(b"content-transfer-encoding") in _CODED
        or kind.strip() == "application/octet-stream"
        or kind.startswith("image/")
        or not is_utf_8(options)
    )


async def _taken(parts: Sequence[tuple[str, str | UploadFile]], reservation: Reservation) -> Form:
    pairs: list[tuple[str, str]] = []
    files: dict[str, bytes] = {}
    for name, value in parts:
        if isinstance(value, str):
            await reservation.grow(len(value))
            pairs.append((name, value.removeprefix("\ufeff")))
            continue
        if not value.size:  # Browsers also send a file input that was left empty.
            continue
        await reservation.grow(value.size)
        text = await text_of(name, value)
        if text is not None:
            pairs.append((name, text))
        elif name in files:
            raise InvalidRequest(
                f"the file part {excerpt(name)} is sent twice; send it once", param=begin(name)
            )
        else:
            files[name] = decoded(name, value, await value.read())
    return Form(pairs, files)


def _text(body: bytes) -> str | None:
    """Return the text of a part without a file name, if it is not a file."""
    if looks_like(body) not in {None, *VALUES} or b"\0" in body:
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
