"""Standard Webhooks signatures, and the secrets that make them."""

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
    """Return the headers that prove a body is ours.

    Args:
        at: when this try is made, aware; receivers refuse what is five minutes off.
        body: UTF-8.
        signing_secrets: the current one first; during a rotation the previous one too, so that
            a receiver may hold either.
    """
    if at.tzinfo is None:
        raise ValueError("a signature needs an aware time")
    # The library takes the wall clock of `at` for UTC, whatever its zone says.
    utc = at.astimezone(UTC)
    text = body.decode()
    signatures = [Webhook(secret).sign(message_id, utc, text) for secret in signing_secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
