"""The addresses of the servers, in any spelling that providers use, in the one spelling that we
use."""

from typing import Final
from urllib.parse import parse_qsl, urlsplit

from psycopg import pq
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

POSTGRES: Final = ("postgresql", "postgres", "postgresql+psycopg")
OTHER_DRIVERS: Final = ("postgresql+", "postgres+")
SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
CERTIFICATES: Final = ("required", "optional", "none")


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
    url = f"postgresql+psycopg://{rest}"
    _check_parts(url)
    return url


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


def _check_parts(url: str) -> None:
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError(
            "its parts cannot be told from each other; it is written like"
            " postgresql://user:password@db.example.org:5432/stillreel, and in a password @ : / ?"
            " and % are written %40 %3A %2F %3F and %25"
        ) from None
    if parts.port is not None and not 1 <= parts.port <= 65535:
        raise ValueError("its port is no number from 1 to 65535")
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    for name in parts.query:
        if name not in known:
            raise ValueError(f"Postgres has no option {name!r}, which follows its ?; leave it out")
    mode = parts.query.get("sslmode", "prefer")
    if mode not in SSL_MODES:
        raise ValueError(f"sslmode takes {', '.join(SSL_MODES)}")
