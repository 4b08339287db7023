"""Reads a server's answers, so that nothing in them can harm a row, a log or the process."""

import json
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any, Final

from shared.outbound.client import Answer

LONGEST_WORDS: Final = 200
LONGEST_RETRY_AFTER: Final = 3600
HIDDEN: Final = "…"

_UNSHOWN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\s\ud800-\udfff]+")
"""Control characters, which Postgres or a terminal may not accept, and lone surrogates."""

_SECONDS: Final = re.compile(r"[0-9]{1,9}")


def read_json(body: bytes, *, secrets: tuple[str, ...] = ()) -> Any:
    """Return JSON without secrets, because a server that was sent one may send it back.

    Raises:
        ValueError: it is not JSON, or is nested too deeply to be read.
    """
    try:
        return _without(json.loads(body), secrets)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def one_line(words: object) -> str:
    """Return a text as one line that may be shown and stored."""
    try:
        line = _UNSHOWN.sub(" ", str(words)).strip()
    except (RecursionError, ValueError):  # For a number of many thousand digits.
        return ""
    return line if len(line) <= LONGEST_WORDS else f"{line[: LONGEST_WORDS - 1]}{HIDDEN}"


def retry_after(answer: Answer) -> int | None:
    """Return how many seconds an answer asks us to wait, at most an hour."""
    told = answer.headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(told):
        return min(int(told), LONGEST_RETRY_AFTER)
    try:
        at = parsedate_to_datetime(told).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    return min(max(0, round(at - time.time())), LONGEST_RETRY_AFTER)


def without(text: str, secrets: tuple[str, ...]) -> str:
    """Return a text without any of the secrets."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def _without(value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return without(value, secrets)
    if isinstance(value, list):
        return [_without(each, secrets) for each in value]
    if isinstance(value, dict):
        return {_without(name, secrets): _without(each, secrets) for name, each in value.items()}
    return value
