"""Standard Webhooks signatures, and their secrets."""

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

from shared.ids import PublicId

SECRET_BYTES: Final = 32

DELIVERY_ID: Final = PublicId("delivery_", "no such webhook delivery")
webhook_id: Final = DELIVERY_ID.show
"""A delivery's id as receivers see it: the same on every try, without a dot."""


def new_secret() -> str:
    """Return a fresh signing secret, shown to its owner once.

    Standard base64, never the URL-safe kind: its "_" breaks receivers that split on it.
    """
    return f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}"


def sign(
    message_id: str, at: datetime, body: bytes, *, signing_secrets: Sequence[str]
) -> dict[str, str]:
    """Return the headers that prove that we sent a body.

    Args:
        at: the time of this try, aware; receivers refuse times that are five minutes off.
        body: UTF-8.
        signing_secrets: the current one first, and during a rotation also the previous one, so
            that a receiver may have either.
    """
    if at.tzinfo is None:
        raise ValueError("a signature needs an aware time")
    # The library takes the wall clock of `at` for UTC, whatever its zone is.
    utc = at.astimezone(UTC)
    text = body.decode()
    signatures = [Webhook(secret).sign(message_id, utc, text) for secret in signing_secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
