"""Forms with files, as mail programs, web pages and scripts write them."""

import asyncio
import base64
import quopri
from collections.abc import Sequence
from typing import Final, cast

import pytest
from starlette.requests import Request

from api.concurrency.body_memory import Reservation
from api.submit.multipart import Form, read_multipart
from shared.errors import InvalidRequest

PHOTO: Final = b"\xff\xd8\xff\xe0" + bytes(range(256))
IMAGE: Final = ('name="image"; filename="a.jpg"', (), PHOTO)
Part = tuple[str, Sequence[str], bytes]


class Unlimited:
    """Memory without a limit."""

    async def grow(self, more: int) -> None:
        pass


def read(*parts: Part, before: bytes = b"", piece_bytes: int = 10**6) -> Form:
    body = before
    for named, headers, content in parts:
        lines = (f"Content-Disposition: form-data; {named}", *headers)
        body += b"--b\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"\r\n"

    body += b"--b--\r\n"
    pieces = [body[at : at + piece_bytes] for at in range(0, len(body), piece_bytes)]

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    header = (b"content-type", b"multipart/form-data; boundary=b")
    request = Request({"type": "http", "method": "POST", "headers": [header]}, receive)
    memory = cast(Reservation, Unlimited())
    return asyncio.run(read_multipart(request, memory, max_fields=50, max_text_bytes=10_000))


def prompt(content: bytes, *headers: str, named: str = 'name="prompt"') -> str:
    form = read((named, headers, content), IMAGE)
    assert form.files == {"image": PHOTO}
    ((name, text),) = form.pairs
    assert name == "prompt"
    return text


@pytest.mark.parametrize("coding", ["base64", "Base64", "quoted-printable"])
def test_a_part_that_was_written_as_mail_is_what_it_was_before(coding: str) -> None:
    encode = base64.encodebytes if coding.lower() == "base64" else quopri.encodestring
    how = f"Content-Transfer-Encoding: {coding}"
    assert prompt(encode("schön = gut".encode()), how).strip() == "schön = gut"
    for named in ('name="image"; filename="a.jpg"', 'name="image"'):
        assert read((named, (how,), encode(PHOTO))).files["image"][:260] == PHOTO


def test_a_part_that_is_not_what_its_header_says_is_told() -> None:
    how = "Content-Transfer-Encoding: base64"
    with pytest.raises(InvalidRequest, match="prompt is not valid base64, as its Content-Tr"):
        prompt(b"abcde", how)


@pytest.mark.parametrize(
    ("charset", "encoding"),
    [("utf-8", "utf-8"), ("ISO-8859-1", "latin-1"), ('"windows-1252"', "latin-1")],
)
def test_a_part_may_name_its_letters(charset: str, encoding: str) -> None:
    kind = f"Content-Type: text/plain; charset={charset}"
    assert prompt("schön".encode(encoding), kind) == "schön"


@pytest.mark.parametrize("charset", ["shift_jis", "utf-16"])
def test_a_part_in_letters_that_are_not_read_is_told(charset: str) -> None:
    kind = f"Content-Type: text/plain; charset={charset}"
    with pytest.raises(InvalidRequest, match=f"prompt is in charset '{charset}'; send it in UTF"):
        prompt("写真".encode(charset), kind)


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "text/plain;charset=utf-8"])
def test_a_text_in_a_blob_is_a_text(kind: str) -> None:
    blob = 'name="prompt"; filename="blob"'
    assert prompt(b"push in", f"Content-Type: {kind}", named=blob) == "push in"


def test_a_byte_order_mark_is_no_part_of_a_text() -> None:
    assert prompt(b"\xef\xbb\xbfpush in") == "push in"


@pytest.mark.parametrize(
    "named", ['name="input_reference"', "name=file", 'name="content"', 'name="images[]"']
)
def test_a_file_of_any_protocol_needs_no_filename(named: str) -> None:
    assert [*read((named, (), PHOTO)).files.values()] == [PHOTO]
    kind = "Content-Type: image/jpeg"
    assert read(('name="first"', (kind,), PHOTO)).files == {"first": PHOTO}


@pytest.mark.parametrize(
    "before", [b"", b"\r\n", b"This is a MIME message.\r\n", b"--\r\n--c\r\n"]
)
@pytest.mark.parametrize("piece_bytes", [1, 7, 10**6])
def test_a_note_before_the_form_is_passed_over(before: bytes, piece_bytes: int) -> None:
    form = read(('name="prompt"', (), b"x"), IMAGE, before=before, piece_bytes=piece_bytes)
    assert (form.pairs, form.files) == ([("prompt", "x")], {"image": PHOTO})


def test_what_has_no_boundary_at_all_is_told() -> None:
    for before in (b"no form", b"x" * 100_000):
        with pytest.raises(InvalidRequest, match="its first line is not the boundary"):
            read(before=before + b"--c")
