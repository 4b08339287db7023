"""What must stay the same from one start to the next: ports, credentials, the worker's id."""

import dataclasses
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from local.processes.process import CannotStart

FILE = "state.json"


@dataclass(frozen=True, kw_only=True)
class State:
    """Kept in `state.json` in the data folder, readable by its owner alone."""

    postgres_password: str = field(default_factory=lambda: secrets.token_hex(24), repr=False)
    valkey_password: str = field(default_factory=lambda: secrets.token_hex(24), repr=False)
    s3_access_key: str = field(default_factory=lambda: secrets.token_hex(10), repr=False)
    s3_secret_key: str = field(default_factory=lambda: secrets.token_hex(24), repr=False)
    worker_id: str = field(default_factory=lambda: f"local-{secrets.token_hex(3)}")
    ports: dict[str, int] = field(default_factory=dict)
    gateway: str = ""
    """Where the last start serves, for `make demo` in another terminal; empty before the first."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the folder's state, drawn anew where there is none.

        Raises:
            CannotStart: the file is unreadable, or missing beside data that needs its password.
        """
        path = folder / FILE
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            if (folder / "pg").exists():
                raise CannotStart(
                    f"{path} is missing, and with it the password of the database beside it;"
                    f" put it back, or move {folder} away to start afresh"
                ) from None
            return cls()
        except PermissionError as error:
            raise CannotStart(
                f"{path} belongs to another user; run as that user, or choose another folder with"
                " STILLREEL_DATA_DIR"
            ) from error
        except (ValueError, TypeError) as error:
            raise CannotStart(f"{path} is damaged ({error}); restore it from a backup") from error

    def save(self, folder: Path) -> None:
        """Write the file whole or not at all, mode 0600 from its first byte on."""
        draft = folder / f"{FILE}.new"
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(dataclasses.asdict(self), file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder / FILE)
