"""The operator's key for a provider: from a setting, or from a file that may be replaced."""

import threading
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from shared.engines.entries import EngineKind
from shared.errors import InvalidRequest
from shared.settings import Settings

LONGEST_KEY: Final = 4096
MOST_KEPT: Final = 8
"""The number of earlier keys that are remembered, because a provider may repeat an old one while
its jobs go on."""


class ProviderKey:
    """A key, and how to read a newer one. Nothing shows it, not even `repr`."""

    def __init__(self, key: str, kind: EngineKind, settings: Settings) -> None:
        self._known = [key]
        self._kind = kind
        self._settings = settings
        self._lock = threading.Lock()

    @property
    def value(self) -> str:
        return self._known[-1]

    @property
    def known(self) -> tuple[str, ...]:
        """Return the key and the earlier ones, none of which may be shown."""
        return tuple(self._known)

    def renew(self, refused: str) -> bool:
        """Read the file again; say whether it has another key now than the refused one."""
        with self._lock:
            if self.value != refused:
                return True  # Another thread was faster.
            try:
                key = read_key(self._kind, self._settings)
            except InvalidRequest:
                return False
            if key == refused:
                return False
            self._known = [*self._known[1 - MOST_KEPT :], key]
            return True


def read_key(kind: EngineKind, settings: Settings) -> str:
    """Return the operator's key for a provider, from its setting or from the named file.

    Raises:
        InvalidRequest: there is no key, or it is not a valid key; the message never shows it.
    """
    variable = f"{kind.upper()}_KEY"
    given: SecretStr | None = getattr(settings, variable.lower()) or None
    path: Path | None = getattr(settings, f"{variable.lower()}_file")
    if (given is None) == (path is None):
        both = "both name a key" if given else "name none"
        raise InvalidRequest(
            f"STILLREEL_ENGINES names {kind}, and STILLREEL_{variable} and"
            f" STILLREEL_{variable}_FILE {both}; set one of the two",
            param=variable,
        )
    if path is not None:
        variable = f"{variable}_FILE"
    try:
        key = given.get_secret_value() if given else _content(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"STILLREEL_{variable} could not be read ({type(error).__name__}); the file must"
            " hold only the key",
            param=variable,
        ) from None
    key = key.strip()
    if not (
        key.isascii() and key.isprintable() and 8 <= len(key) < LONGEST_KEY and " " not in key
    ):
        raise InvalidRequest(
            f"STILLREEL_{variable} has {'no key' if key else 'nothing'} in it: a key is 8 visible"
            " ASCII characters or more, in one line",
            param=variable,
        )
    return key


def _content(path: Path | None) -> str:
    assert path is not None
    with path.open("rb") as file:
        # Editors on Windows write a byte order mark.
        return file.read(LONGEST_KEY).decode("utf-8-sig")
