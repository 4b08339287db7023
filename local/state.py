"""Values that stay the same from one start to the next: ports, credentials, the worker's id."""

import dataclasses
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from local.private_file import write_private
from local.processes.process import CannotStart

FILE = "state.json"


@dataclass(frozen=True, kw_only=True)
class State:
    """Stored in `state.json` in the data folder, readable only by its owner."""

    postgres_password: str = field(default_factory=lambda: secrets.token_hex(24), repr=False)
    valkey_password: str = field(default_factory=lambda: secrets.token_hex(24), repr=False)
    s3_access_key: str = field(default_factory=lambda: secrets.token_hex(10), repr=False)
    s3_secret_key: str = field(default_factory=lambda: secrets.token_hex(24), repr=False)
    secret: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    worker_id: str = field(default_factory=lambda: f"local-{secrets.token_hex(3)}")
    ports: dict[str, int] = field(default_factory=dict)
    gateway: str = ""
    """The address of the last start, for `make demo` in another terminal; empty before the first
    start."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the folder's state; if there is none, draw a new one.

        Raises:
            CannotStart: the file is unreadable, or missing beside data that needs its password.
        """
        path = folder / FILE
        try:
            return cls(**_known(path, json.loads(path.read_text()), cls))
        except FileNotFoundError:
            if (folder / "pg").exists():
                raise CannotStart(
                    f"{path} is missing, and it has the password of the database beside it; put"
                    f" it back, or move {folder} away to start again"
                ) from None
            return cls()
        except PermissionError as error:
            raise CannotStart(
                f"{path} belongs to another user; run as that user, or choose another folder with"
                " STILLREEL_DATA_DIR"
            ) from error
        except (ValueError, TypeError) as error:
            raise CannotStart(
                f"{path} is damaged ({error}); restore it from a backup, or move {folder} away to"
                " start again without its data"
            ) from error

    def save(self, folder: Path) -> None:
        """Write the file completely or not at all, mode 0600 from its first byte on."""
        write_private(folder / FILE, json.dumps(dataclasses.asdict(self), indent=2))


def _known(path: Path, kept: object, kind: type[State]) -> dict[str, Any]:
    """Return the content of the file, if this version knows all of it.

    Raises:
        CannotStart: a newer version wrote more fields into it.
        ValueError: it holds other content than we write.
    """
    if not isinstance(kept, dict):
        raise ValueError("it holds no names")
    fields = {field.name for field in dataclasses.fields(kind)}
    if newer := sorted(set(kept) - fields):
        raise CannotStart(
            f"the data in {path.parent} were used by a newer version of Stillreel ({path.name}"
            f" holds {', '.join(newer)}, which this one does not know); start that version again,"
            " or restore a backup from before the upgrade"
        )
    ports = kept.get("ports", {})
    if not isinstance(ports, dict) or not all(isinstance(port, int) for port in ports.values()):
        raise ValueError("its ports are not numbers")
    for name in fields - {"ports"}:
        if not isinstance(kept.get(name, ""), str):
            raise ValueError(f"its {name} is no text")
    return kept
