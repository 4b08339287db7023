"""The three embedded servers: their ports, their parts, and the settings with their addresses."""

from pathlib import Path
from typing import Final

from local import ports
from local.processes.process import Part
from local.servers.postgres import DATABASE, USER, postgres
from local.servers.seaweed import BUCKET, is_blocked, seaweed
from local.servers.valkey import valkey
from local.state import State

PORTS: Final = {
    "postgres": 5432,
    "valkey": 6379,
    "s3": 8333,
    "s3.grpc": 18333,
    "master": 9333,
    "master.grpc": 19333,
    "volume": 9340,
    "volume.grpc": 19340,
    "filer": 8888,
    "filer.grpc": 18888,
    "admin": 23646,
    "admin.grpc": 33646,
}
"""Every port that the three open, with its usual number. SeaweedFS opens the last ten, including
the admin ports even if its admin page is switched off."""

INNER: Final = tuple(name for name in PORTS if name not in {"postgres", "valkey", "s3"})
"""The ports that SeaweedFS' parts use among themselves; nobody else passes a handshake there."""

ADMIN_OFFSET: Final = 10000
"""SeaweedFS' maintenance always looks for the admin's gRPC port this far above the other. If it is
not there, nothing is maintained, and 10 MB of errors a day are logged. A moved port is then below
the ports that Linux lends to outgoing connections, but not below those of gVisor."""


def choose_ports(wanted: dict[str, int], *, kept: int | None = None) -> dict[str, int]:
    """Return a free port for each of `PORTS`: the wanted one, else the usual one, else another.

    Args:
        wanted: the numbers of the last start, by name.
        kept: a port that no server may take: that of the gateway, which starts last.
    """
    chosen: dict[str, int] = {}

    def is_good(name: str, port: int) -> bool:
        if port in {kept, *chosen.values()} or not ports.is_free(port) or is_blocked(port):
            return False
        return name != "admin" or is_good("admin.grpc", port + ADMIN_OFFSET)

    for name, usual in PORTS.items():
        if name == "admin.grpc":
            chosen[name] = chosen["admin"] + ADMIN_OFFSET
            continue
        port = wanted.get(name, usual)
        while not is_good(name, port):
            port = ports.another()
        chosen[name] = port
    return chosen


def services(folder: Path, state: State, *, is_durable: bool = True) -> tuple[Part, ...]:
    """Return Postgres, Valkey and SeaweedFS with their data in `folder`, ports from `state`.

    Args:
        folder: absolute; its `logs` folder exists.
        is_durable: False for tests: data survives the processes but not the machine.
    """
    return (
        postgres(folder, state, is_durable=is_durable),
        valkey(folder, state),
        seaweed(folder, state),
    )


def service_env(state: State, *, database: str = DATABASE, valkey_db: int = 0) -> dict[str, str]:
    """Return the settings with the addresses of the servers of `state`, and its secret."""
    port = state.ports
    return {
        "STILLREEL_DATABASE_URL": f"postgresql+psycopg://{USER}:{state.postgres_password}"
        f"@127.0.0.1:{port['postgres']}/{database}",
        "STILLREEL_REDIS_URL": f"redis://:{state.valkey_password}"
        f"@127.0.0.1:{port['valkey']}/{valkey_db}",
        "STILLREEL_CLOSED_PORTS": ",".join(str(port[name]) for name in INNER),
        "STILLREEL_S3_ENDPOINT": f"http://127.0.0.1:{port['s3']}",
        "STILLREEL_S3_BUCKET": BUCKET,
        "STILLREEL_S3_ACCESS_KEY": state.s3_access_key,
        "STILLREEL_S3_SECRET_KEY": state.s3_secret_key,
        "STILLREEL_SECRET": state.secret,
    }
