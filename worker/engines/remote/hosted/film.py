"""Fetching a finished clip from where a provider has put it."""

from pathlib import Path
from typing import Final

from shared.outbound.download import Downloads, LinkGone
from shared.outbound.errors import (
    AnswerTooLarge,
    OutboundFailed,
    OutboundRefused,
    UnusableAnswer,
)
from worker.engines.remote.errors import Away, ResultGone, ResultUnusable
from worker.engines.remote.provider import OnBytes

TYPES: Final = ("video/mp4", "application/octet-stream", "binary/octet-stream")
"""Stores that were told nothing call everything octets; what is in it is looked at later."""

MAX_FILM_BYTES: Final = 256 * 1024 * 1024


def fetch_film(
    downloads: Downloads,
    url: str,
    into: Path,
    on_bytes: OnBytes,
    *,
    max_bytes: int = MAX_FILM_BYTES,
) -> None:
    """Write a clip to a file; the key does not go with it.

    Raises:
        ResultGone, ResultUnusable, Away: as `Provider.download`.
    """
    try:
        downloads.fetch(url, into, types=TYPES, max_bytes=max_bytes, on_bytes=on_bytes)
    except LinkGone as error:
        raise ResultGone(error.message) from error
    except (AnswerTooLarge, UnusableAnswer, OutboundRefused) as error:
        raise ResultUnusable(error.message) from error
    except OutboundFailed as error:
        raise Away(error.message) from error
