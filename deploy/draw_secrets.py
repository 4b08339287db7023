"""`python -m deploy.draw_secrets FOLDER`: the passwords of a compose installation, drawn once.

Each reader gets files of its own, which no other reader may read. `drawn.json` keeps the values.
If it exists, all files are written again with these values, so that a new version can add some.
"""

import json
import os
import secrets
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from shared.certificates import Certificates
from shared.store_security import security_toml

APP: Final = 10001
STORE: Final = 10002
CACHE: Final = 10003
POSTGRES: Final = 999
GRAFANA: Final = 472
"""The users who read: three ids of our choice, and those that two images have."""

AUTHORITY: Final = "authority.pem"
PAIR: Final = "store.pem"

ONLY_ITS_OWNER_READS: Final = 0o400


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The values that must stay the same as long as the data exists."""

    postgres_password: str = field(default_factory=lambda: secrets.token_hex(24), repr=False)
    valkey_password: str = field(default_factory=lambda: secrets.token_hex(24), repr=False)
    s3_access_key: str = field(default_factory=lambda: secrets.token_hex(10), repr=False)
    s3_secret_key: str = field(default_factory=lambda: secrets.token_hex(24), repr=False)
    secret: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    grafana_password: str = field(default_factory=lambda: secrets.token_hex(12), repr=False)
    store_signing_key: str = field(default_factory=lambda: secrets.token_hex(24), repr=False)
    store_authority: str = field(default="", repr=False)
    store_authority_key: str = field(default="", repr=False)
    store_pair: str = field(default="", repr=False)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the kept values; a value that is missing or expires soon is drawn now."""
        drawn = cls(**json.loads(path.read_text())) if path.exists() else cls()
        found = (drawn.store_authority, drawn.store_authority_key, drawn.store_pair)
        kept = Certificates(*found).renewed()
        return replace(
            drawn,
            store_authority=kept.authority,
            store_authority_key=kept.authority_key,
            store_pair=kept.pair,
        )


@dataclass(frozen=True)
class SecretFile:
    """One file for one reader: its path in the folder, the user who may read it, its content."""

    path: str
    owner: int
    content: str = field(repr=False)


def files(drawn: Drawn) -> Iterable[SecretFile]:
    database = f"postgresql+psycopg://stillreel:{drawn.postgres_password}@postgres:5432/stillreel"
    yield SecretFile("app/database_url", APP, database)
    yield SecretFile("app/redis_url", APP, f"redis://:{drawn.valkey_password}@valkey:6379/0")
    yield SecretFile("app/s3_access_key", APP, drawn.s3_access_key)
    yield SecretFile("app/s3_secret_key", APP, drawn.s3_secret_key)
    yield SecretFile("app/secret", APP, drawn.secret)
    yield SecretFile("postgres/password", POSTGRES, drawn.postgres_password)
    yield SecretFile("valkey/valkey.conf", CACHE, f"requirepass {drawn.valkey_password}\n")
    yield SecretFile("valkey/password", CACHE, drawn.valkey_password)
    yield SecretFile("s3/identities.json", STORE, identities(drawn))
    yield SecretFile("s3/security.toml", STORE, security(drawn))
    yield SecretFile(f"s3/{AUTHORITY}", STORE, drawn.store_authority)
    yield SecretFile(f"s3/{PAIR}", STORE, drawn.store_pair)
    yield SecretFile("grafana/password", GRAFANA, drawn.grafana_password)


def identities(drawn: Drawn) -> str:
    """Return SeaweedFS' list of users and rights; without a list everybody may do everything."""
    key = {"accessKey": drawn.s3_access_key, "secretKey": drawn.s3_secret_key}
    return json.dumps(
        {"identities": [{"name": "stillreel", "credentials": [key], "actions": ["Admin"]}]}
    )


def security(drawn: Drawn) -> str:
    """Return the file that closes SeaweedFS' inner ports; paths are relative to its folder."""
    return security_toml(authority=AUTHORITY, pair=PAIR, signing_key=drawn.store_signing_key)


def draw(folder: Path, *, owner: int | None = None) -> None:
    """Write every file again, each completely or not at all.

    Args:
        owner: the owner of all files, for a caller who is not root.
    """
    kept = folder / "drawn.json"
    drawn = Drawn.load(kept)
    own = os.geteuid() if owner is None else owner
    write(kept, json.dumps(asdict(drawn)), own)
    for file in files(drawn):
        path = folder / file.path
        path.parent.mkdir(mode=0o755, exist_ok=True)
        write(path, file.content, file.owner if owner is None else owner)


def write(path: Path, content: str, owner: int) -> None:
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    number = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, ONLY_ITS_OWNER_READS)
    with os.fdopen(number, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(number)
    os.chown(draft, owner, owner)
    draft.replace(path)


def main(folder: str, *stores: str) -> int:
    """Draw the secrets, and make the store's user the owner of its folders."""
    draw(Path(folder))
    for store in stores:
        os.chown(store, STORE, STORE)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
