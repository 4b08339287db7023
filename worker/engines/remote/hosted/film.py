"""Downloads a finished clip from the place where a provider has put it."""

from pathlib import Path
from typing import Final

from shared.outbound.client import Outbound
from shared.outbound.errors import (
    AnswerTooLarge,
    OutboundFailed,
    OutboundRefused,
    UnusableAnswer,
)
from worker.engines.remote.errors import Away, ResultGone, ResultUnusable
from worker.engines.remote.provider import OnBytes

TYPES: Final = frozenset({"video/mp4", "application/octet-stream", "binary/octet-stream"})
"""Stores without a type call everything octets; the content is checked later."""

GONE: Final = frozenset({401, 403, 404, 410})


def fetch_film(outbound: Outbound, url: str, into: Path, on_bytes: OnBytes) -> None:
    """Write a clip to a file; the key is not sent with the request.

    Raises:
        ResultGone, ResultUnusable, Away: as `Provider.download`.
    """
    accept = {"Accept": "video/mp4"}
    try:
        with into.open("wb") as file:
            answer = outbound.download(url, file, headers=accept, on_bytes=on_bytes)
    except (AnswerTooLarge, UnusableAnswer, OutboundRefused) as error:
        raise ResultUnusable(error.message) from error
    except OutboundFailed as error:
        raise Away(error.message) from error
    if answer.status_code in GONE:
        raise ResultGone(f"the link to the clip has expired: it answered {answer.status_code}")
    if answer.status_code == 429 or answer.status_code >= 500:
        raise Away(f"the server of the clip answered {answer.status_code}")
    if answer.status_code != 200:
        raise ResultUnusable(f"the server of the clip answered {answer.status_code}")
    told = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if told not in TYPES:
        raise ResultUnusable(f"the result says that it is {told[:60]!r}, not an MP4")
