"""The one secret of an installation, and the keys that are derived from it for each purpose.

Somebody who learns a derived key can do what that purpose allows and nothing else: HKDF does not
lead to another purpose's key, nor back to the secret.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.settings import Settings

KEY_BYTES: Final = 32
MISSING: Final = (
    "the settings are wrong: STILLREEL_SECRET is missing; it is the root of signed links, sessions"
    " and kept headers, the same for every gateway and keeper. `make run` and compose draw it;"
    ' else set what `python -c "import secrets; print(secrets.token_hex(32))"` prints'
)


class Purpose(StrEnum):
    """What a key is for; its name goes into the derivation and must never change."""

    LINKS = "links"
    SESSIONS = "sessions"
    WEBHOOK_HEADERS = "webhook-headers"


class InstallationSecret:
    """The secret, and earlier ones that are still valid; the first makes new keys and links."""

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets:
            raise ValueError("an installation has one secret at least")
        self._secrets = tuple(secrets)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the secret of these settings.

        Raises:
            SystemExit: they name no secret; the message says how to make one.
        """
        if not settings.secrets:
            raise SystemExit(MISSING)
        return cls(settings.secrets)

    def keys(self, purpose: Purpose) -> tuple[bytes, ...]:
        """Return a purpose's keys: the first makes new values, and each opens what it made."""
        return tuple(
            HKDF(
                algorithm=SHA256(),
                length=KEY_BYTES,
                salt=None,
                info=f"stillreel 1 {purpose}".encode(),
            ).derive(secret.encode())
            for secret in self._secrets
        )
