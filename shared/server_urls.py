"""The servers' addresses: read in any spelling that providers use, written in ours."""

import re
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from psycopg import pq
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

POSTGRES: Final = ("postgresql", "postgres", "postgresql+psycopg")
POSTGRES_PORT: Final = 5432
OTHER_DRIVERS: Final = ("postgresql+", "postgres+")
SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SESSION_ATTRS: Final = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
"""Which of several hosts to take, by what libpq may ask of it."""

CERTIFICATES: Final = ("required", "optional", "none")

_AUTHORITY: Final = re.compile(r"((?:[^/?]*@)?)([^/?@]*)((?:[/?].*)?)", re.DOTALL)
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]*))(?::(\d*))?")


def postgres_url(given: str) -> str:
    """Return the address as SQLAlchemy takes it, with the driver that is installed here.

    Raises:
        ValueError: it is not an address of Postgres; the message repeats no part of a password.
    """
    scheme, mark, rest = given.strip().partition("://")
    if not mark or scheme.lower() not in POSTGRES:
        if scheme.lower().startswith(OTHER_DRIVERS):
            raise ValueError(
                f"it names the driver {scheme.partition('+')[2]}, which is not used here; write"
                " postgresql:// in place of it"
            )
        raise ValueError(
            "it begins with postgresql:// (postgres:// and postgresql+psycopg:// mean the same),"
            " like postgresql://user:password@db.example.org:5432/stillreel"
        )
    url = f"postgresql+psycopg://{_with_hosts_as_options(rest)}"
    _check_parts(url)
    return url


def connect_arguments(url: str) -> dict[str, Any]:
    """Return what an address of `postgres_url` says, by libpq's names."""
    parts = make_url(url)
    _, arguments = parts.get_dialect()().create_connect_args(parts)
    return dict(arguments)


def postgres_servers(url: str) -> tuple[list[str], list[int]]:
    """Return the hosts that an address of `postgres_url` names, and their ports; no sockets."""
    arguments = connect_arguments(url)
    hosts = str(arguments.get("host", "")).split(",")
    ports = str(arguments.get("port", "")).split(",")
    return (
        [host for host in hosts if host and not host.startswith(("/", "@"))],
        [int(port) if port else POSTGRES_PORT for port in ports],
    )


def redis_url(given: str) -> str:
    """Return the address, which redis-py and Celery read alike.

    Raises:
        ValueError: they cannot both use it.
    """
    url = given.strip()
    scheme, mark, rest = url.partition("://")
    if not mark or scheme.lower() not in {"redis", "rediss"}:
        raise ValueError(
            "it begins with redis://, or with rediss:// for TLS, like"
            " rediss://:password@cache.example.org:6379/0"
        )
    try:
        parts = urlsplit(f"{scheme.lower()}://{rest}")
        port = parts.port
    except ValueError:
        raise ValueError("its port is no number from 1 to 65535") from None
    if port == 0:
        raise ValueError("its port is no number from 1 to 65535")
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if not name.startswith("ssl_") or scheme.lower() == "redis":
            raise ValueError(
                f"{name!r} is no option here; after the ? it takes ssl_ca_certs and its like,"
                " with rediss:// only"
            )
        if name == "ssl_cert_reqs" and value not in CERTIFICATES:
            raise ValueError(f"ssl_cert_reqs takes {', '.join(CERTIFICATES)}")
    return parts.geturl()


def _with_hosts_as_options(rest: str) -> str:
    """Return an address whose hosts follow its `?` where SQLAlchemy would misread them.

    libpq takes several hosts, each with a port, and a socket's folder as `%2Frun%2Fpostgresql`.
    """
    user, hosts, tail = _groups(_AUTHORITY, rest)
    entries = [_HOST.fullmatch(entry) for entry in hosts.split(",")]
    found = [(entry[1] or unquote(entry[2]), entry[3]) for entry in entries if entry]
    is_plain = len(found) == 1 and "%" not in hosts and found[0][1] != ""
    if len(found) < len(entries) or is_plain:
        return rest
    database, _, query = tail.partition("?")
    options = [
        f"host={quote(','.join(host for host, _ in found), safe=',:')}",
        f"port={','.join(port or str(POSTGRES_PORT) for _, port in found)}",
        *([query] if query else []),
    ]
    return f"{user}{database}?{'&'.join(options)}"


def _groups(pattern: re.Pattern[str], text: str) -> tuple[str, str, str]:
    found = pattern.fullmatch(text)
    return ("", text, "") if found is None else (found[1], found[2], found[3])


def _check_parts(url: str) -> None:
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError(
            "its parts cannot be told from each other; it is written like"
            " postgresql://user:password@db.example.org:5432/stillreel, and in a password @ : / ?"
            " and % are written %40 %3A %2F %3F and %25"
        ) from None
    if "@" in (parts.host or ""):
        raise ValueError("an @ in the user or the password is written %40")
    if "#" in (parts.database or ""):
        raise ValueError("a # in it is written %23")
    if parts.port == 0:
        raise ValueError("its port is no number from 1 to 65535")
    _check_options(parts)
    try:
        _, ports = postgres_servers(url)
    except (ArgumentError, ValueError):
        raise ValueError(
            "its hosts and ports do not go together; several are written like"
            " postgresql://user:password@one.example.org:5432,two.example.org:5432/stillreel"
        ) from None
    if not all(1 <= port <= 65535 for port in ports):
        raise ValueError("its port is no number from 1 to 65535")


def _check_options(parts: URL) -> None:
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    for name, value in parts.query.items():
        if name not in known:
            raise ValueError(f"Postgres has no option {name!r}, which follows its ?; leave it out")
        if not isinstance(value, str) and name != "host":
            raise ValueError(f"it has the option {name!r} twice")
    _check_choice(parts, "sslmode", SSL_MODES)
    _check_choice(parts, "target_session_attrs", SESSION_ATTRS)


def _check_choice(parts: URL, name: str, choices: tuple[str, ...]) -> None:
    if parts.query.get(name, choices[0]) not in choices:
        raise ValueError(f"{name} takes {', '.join(choices)}")
