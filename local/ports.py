"""Free ports on loopback, and the program that holds a busy one."""

import contextlib
import secrets
import socket

import psutil

MOVED = range(10000, 13000)
"""The port for a service whose usual port is taken: below the ranges from which kernels lend ports
to outgoing connections (from 32768 on Linux, 16000 in gVisor), which could take it between the
check and the start."""


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Say whether a server could listen there now."""
    return obstacle(port, host) is None


def obstacle(port: int, host: str) -> OSError | None:
    """Return the system's error for a server that wants to listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Without this, connections of a server stopped a moment ago would make its port look
        # taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            return error
    return None


def is_open(port: int) -> bool:
    """Say whether a program listens there; unlike `is_free`, this never occupies the port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def another() -> int:
    """Return a number to try."""
    return secrets.choice(MOVED)


def holder(port: int) -> str | None:
    """Return the program that listens on the port as "name (pid 123)", if this user may see it."""
    try:
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr.port == port
                and connection.pid
            ):
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        return None
    return None
