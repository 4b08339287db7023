"""The extra headers of a webhook, such as a token or a password: checked, and sealed when stored.

They are sealed by AES-256-GCM under a key of the installation's secret. The id of the job, or of
the batch, is authenticated with them, so a value sealed for one opens for no other.
"""

import base64
import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MOST_HEADERS: Final = 10
MOST_NAME_CHARACTERS: Final = 64
MOST_VALUE_CHARACTERS: Final = 2000
MOST_CHARACTERS: Final = 8000
"""The limit of all names and values together, because usual servers accept 8 KiB of headers."""

NONCE_BYTES: Final = 12
HIDDEN: Final = "[hidden]"
"""A shorter value is too common to be searched in an answer."""

OURS: Final = frozenset(
    {
        *("accept-encoding", "content-encoding", "content-length", "content-type", "date"),
        *("expect", "host", "user-agent"),
        # Hop by hop (RFC 9110, 7.6.1), and headers that steer a proxy on the way.
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization"),
        *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings"),
        *("forwarded", "via", "x-real-ip"),
    }
)
"""Names that the sender itself sets, or that have a meaning between it and the receiver."""

OUR_PREFIXES: Final = ("webhook-", "svix-", "x-forwarded-")
"""Signatures use these names, so no client may set them."""

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?")


def check_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the headers if a webhook can send them.

    Raises:
        ValueError: the message names the header and what would be right, and never a value.
    """
    if len(headers) > MOST_HEADERS:
        raise ValueError(f"there are {len(headers)} headers; it takes {MOST_HEADERS} at most")
    seen: set[str] = set()
    for name, value in headers.items():
        _check_name(name)
        if name.lower() in seen:
            raise ValueError(f"{name} comes twice; the names of headers have no case")
        seen.add(name.lower())
        if not _VALUE.fullmatch(value) or len(value) > MOST_VALUE_CHARACTERS:
            raise ValueError(
                f"the value of {name} is not 1 to {MOST_VALUE_CHARACTERS} visible ASCII"
                " characters, with blanks between them only"
            )
    if sum(len(name) + len(value) for name, value in headers.items()) > MOST_CHARACTERS:
        raise ValueError(f"all together they take {MOST_CHARACTERS} characters at most")
    return headers


def _check_name(name: str) -> None:
    shown = name[:MOST_NAME_CHARACTERS]
    if not _NAME.fullmatch(name) or len(name) > MOST_NAME_CHARACTERS:
        raise ValueError(
            f"{shown!r} is no name of a header; one has 1 to {MOST_NAME_CHARACTERS} letters,"
            " digits and dashes, like X-Api-Key"
        )
    if name.lower() in OURS or name.lower().startswith(OUR_PREFIXES):
        raise ValueError(f"{shown} is set by the sender; use another, like Authorization")


def without(values: Iterable[str], text: str | None) -> str | None:
    """Return a receiver's answer without the secrets that it may have sent back."""
    parts = {part for value in values for part in (value, *value.split())}
    for part in sorted(parts, key=len, reverse=True):
        if text and len(part) >= len(HIDDEN):
            text = text.replace(part, HIDDEN)
    return text


class HeaderSeal:
    """Seals headers with the first key, and opens what any of them has sealed."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._ciphers = [AESGCM(key) for key in keys]

    def seal(self, headers: Mapping[str, str], *, of: UUID) -> str:
        nonce = secrets.token_bytes(NONCE_BYTES)
        text = json.dumps(dict(headers)).encode()
        sealed = self._ciphers[0].encrypt(nonce, text, of.bytes)
        return base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: str, *, of: UUID) -> dict[str, str] | None:
        """Return the headers; None if the settings no longer name the secret that sealed them."""
        raw = base64.b64decode(sealed)
        for cipher in self._ciphers:
            try:
                text = cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], of.bytes)
            except InvalidTag:
                continue
            headers: dict[str, str] = json.loads(text)
            return headers
        return None
