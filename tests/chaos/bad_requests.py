"""Whole requests, byte by byte, that no well-meant client would send; they come from a seed."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.chaos.bad_images import IMAGES, OK, saved
from tests.support.gateway import data_uri

JSON = "application/json"
FORM = "multipart/form-data; boundary=b"
URLENCODED = "application/x-www-form-urlencoded"

BAD = frozenset({422})
UNSUPPORTED = frozenset({415})
TOO_LARGE = frozenset({413})
MALFORMED = frozenset({400})
SLOW = frozenset({408})
NO_ANSWER = frozenset({0})
"""The client does not wait for an answer, or the gateway only closes the connection."""


@dataclass(frozen=True)
class Request:
    """The bytes of a request, and what follows: stay for the answer, hang up, or trickle on."""

    kind: str
    wire: bytes
    right: frozenset[int]
    then: str = "stay"


@dataclass(frozen=True)
class Kind:
    make: Callable[[random.Random], bytes]
    right: frozenset[int]
    weight: float = 1.0
    then: str = "stay"


def http(body: bytes, content_type: str, *headers: str, length: int | None = None) -> bytes:
    """Return a POST of a body; `length` replaces the true length."""
    lines = [
        "POST /v1/jobs HTTP/1.1",
        "Host: 127.0.0.1",
        "Connection: close",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(pieces: list[bytes], content_type: str) -> bytes:
    head = http(b"", content_type).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


def part(disposition: bytes, body: bytes) -> bytes:
    return b"--b\r\nContent-Disposition: form-data; " + disposition + b"\r\n\r\n" + body + b"\r\n"


def image_part(name: bytes = b"photo.jpg", body: bytes | None = None) -> bytes:
    disposition = b'name="image"; filename="' + name + b'"'
    return part(disposition, saved("JPEG") if body is None else body)


def form(*parts: bytes, end: bytes = b"--b--\r\n") -> bytes:
    return http(b"".join(parts) + end, FORM)


def image_json(value: object, **fields: object) -> bytes:
    return http(json.dumps({"image": value, **fields}).encode(), JSON)


def text(body: bytes) -> Callable[[random.Random], bytes]:
    return lambda rng: http(body, JSON)


PHOTO = data_uri(saved("JPEG"), "image/jpeg")
HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n"

BODIES: dict[str, Kind] = {
    "good json": Kind(lambda rng: image_json(PHOTO, seed=rng.randrange(2**32)), OK, 4),
    "ten thousand parts": Kind(
        lambda rng: form(*[part(b'name="metadata[%d]"' % n, b"x") for n in range(10_000)]), BAD
    ),
    "ten thousand fields": Kind(
        lambda rng: http(b"&".join(b"a%d=b" % n for n in range(10_000)), URLENCODED), BAD
    ),
    "two images": Kind(lambda rng: form(image_part(), image_part()), BAD),
    "an image in a form and its JSON": Kind(
        lambda rng: form(image_part(), part(b'name="image"', PHOTO.encode())), BAD
    ),
    "a field twice": Kind(
        lambda rng: form(image_part(), *[part(b'name="prompt"', b"x")] * 2), BAD
    ),
    "a very long field name": Kind(
        lambda rng: form(image_part(), part(b'name="' + b"a" * 500_000 + b'"', b"x")), BAD
    ),
    "a very long name in json": Kind(
        lambda rng: image_json(PHOTO, **{"prompt" * 300_000: "x"}), BAD
    ),
    "a very long file name": Kind(
        lambda rng: form(image_part(b"a" * rng.choice((200, 300_000)))), OK | BAD
    ),
    "a file name that climbs": Kind(lambda rng: form(image_part(b"../../etc/cron.d/x")), OK),
    "a file name with NUL": Kind(lambda rng: form(image_part(b"a\0.php")), OK | BAD),
    "a field name with NUL": Kind(
        lambda rng: form(image_part(), part(b'name="pro\0mpt"', b"x")), BAD
    ),
    "a field name that climbs": Kind(
        lambda rng: form(image_part(), part(b'name="../prompt"', b"x")), BAD
    ),
    "a NUL in a prompt": Kind(lambda rng: image_json(PHOTO, prompt="a\0b"), BAD),
    "half a surrogate": Kind(text(b'{"image": "x", "prompt": "\\ud800"}'), BAD),
    "another boundary": Kind(
        lambda rng: http(image_part() + b"--b--\r\n", "multipart/form-data; boundary=c"), BAD
    ),
    "no boundary": Kind(lambda rng: http(image_part() + b"--b--\r\n", "multipart/form-data"), BAD),
    "a form without an end": Kind(lambda rng: form(image_part(), end=b""), OK | BAD),
    "a form cut in a header": Kind(lambda rng: form(b"--b\r\nContent-Dispo", end=b""), BAD),
    "a form in a form": Kind(
        lambda rng: form(image_part(body=form(image_part()).partition(b"\r\n\r\n")[2])),
        BAD | UNSUPPORTED | OK,
    ),
    "a part with ten thousand headers": Kind(
        lambda rng: form(b"--b\r\n" + b"X: y\r\n" * 10_000 + b"\r\nx\r\n"), BAD
    ),
    "json nested deeply": Kind(text(b'{"metadata":' + b'{"a":' * 100_000), BAD),
    "json of many lists": Kind(text(b'{"image": [' + b"[]," * 1_000_000 + b"1]}"), BAD, 0.3),
    "json of many names": Kind(
        lambda rng: image_json(PHOTO, **{f"a{n}": n for n in range(60_000)}), BAD, 0.3
    ),
    "json with a huge number": Kind(text(b'{"seed": ' + b"9" * 1_000_000 + b"}"), BAD),
    "json with a huge exponent": Kind(
        text(b'{"image": "%s", "guidance_scale": 1e999}' % PHOTO.encode()), BAD
    ),
    "json that is none": Kind(lambda rng: http(rng.randbytes(500), JSON), BAD),
    "json not in UTF-8": Kind(text(b'{"prompt": "\xff\xfe"}'), BAD),
    "json of another shape": Kind(text(b"[1, 2, 3]"), BAD),
    "base64 that is none": Kind(lambda rng: image_json("data:image/png;base64,%%%"), BAD),
    "base64 cut": Kind(lambda rng: image_json(PHOTO[: rng.randrange(30, len(PHOTO))]), BAD),
    "a data URI of a PDF": Kind(
        lambda rng: image_json(data_uri(b"%PDF-1.7 x", "application/pdf")), UNSUPPORTED
    ),
    "a data URI without a comma": Kind(lambda rng: image_json("data:" + "a" * 3_000_000), BAD),
    "a file path for an image": Kind(lambda rng: image_json("file:///etc/passwd"), BAD),
    "another content type": Kind(lambda rng: http(saved("JPEG"), "image/jpeg"), UNSUPPORTED),
    "too large a body": Kind(lambda rng: http(b"{" + bytes(99), JSON, length=10**10), TOO_LARGE),
    "chunks beyond the limit": Kind(
        lambda rng: chunked([b" " * 2**20] * 52, JSON), TOO_LARGE | NO_ANSWER, 0.1
    ),
    "a length that is too short": Kind(
        lambda rng: http(image_json(PHOTO).partition(b"\r\n\r\n")[2], JSON, length=40), BAD
    ),
    "a length that is no number": Kind(
        lambda rng: HEAD + b"Content-Length: -5\r\n\r\n{}", MALFORMED
    ),
    "two lengths": Kind(
        lambda rng: HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", MALFORMED
    ),
    "a chunk of no size": Kind(
        lambda rng: chunked([], JSON) + b"zz\r\n{}\r\n", MALFORMED | BAD | NO_ANSWER
    ),
    "no HTTP": Kind(lambda rng: b"\x16\x03\x01" + rng.randbytes(300), MALFORMED),
    "endless headers": Kind(
        lambda rng: HEAD + b"X: y\r\n" * 60_000, NO_ANSWER | MALFORMED, then="hang up"
    ),
    "hanging up in the body": Kind(
        lambda rng: form(image_part())[: rng.randrange(200, 6000)], NO_ANSWER, 3, "hang up"
    ),
    "a length that is too long": Kind(
        lambda rng: http(b"{", JSON, length=999), NO_ANSWER, 3, "hang up"
    ),
    "a body that trickles": Kind(
        lambda rng: http(b"{", JSON, length=99_999), SLOW, 0.3, "trickle"
    ),
    "headers that trickle": Kind(lambda rng: HEAD + b"X: ", NO_ANSWER, 0.1, "trickle"),
}


def requests(seed: int, count: int) -> Iterator[Request]:
    """Yield every kind once, slow kinds first, and then kinds that the seed draws."""
    rng = random.Random(seed)
    kinds: dict[str, Kind] = {
        **{
            name: Kind(
                lambda rng, make=kind.make: form(image_part(body=make(rng))),  # type: ignore[misc]
                kind.right,
                kind.weight,
            )
            for name, kind in IMAGES.items()
        },
        **BODIES,
    }
    slow_first = sorted(kinds, key=lambda name: kinds[name].then != "trickle")
    drawn = rng.choices(
        list(kinds), [kind.weight for kind in kinds.values()], k=max(0, count - len(kinds))
    )
    for name in (*slow_first, *drawn):
        kind = kinds[name]
        yield Request(name, kind.make(rng), kind.right, kind.then)
