"""`python -m api keys …`: API keys from a shell that reaches the database."""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from shared.api_keys.key import ApiKey
from shared.api_keys.store import MOST_OVERLAP, Keys
from shared.db import Database
from shared.errors import AppError, DatabaseUnavailable, NotFound
from shared.settings import Settings

DEADLINE: Final = timedelta(seconds=4)
HEAD: Final = (
    *(
        "name",
        "begins with",
        "admin",
        "queued",
        "running",
        "seconds a day",
        "models",
        "reads only",
    ),
    *("created", "used", "rotated", "old one until", "revoked"),
)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line; `command` is None if it asks to serve."""
    parser = argparse.ArgumentParser(
        prog="python -m api", description="Serve, or with a command manage the API keys."
    )
    commands = parser.add_subparsers(dest="command")
    keys = commands.add_parser("keys", help="make, list, rotate and revoke API keys")
    actions = keys.add_subparsers(dest="action", required=True)
    create = actions.add_parser("create", help="make a key and print it, only this once")
    create.add_argument("name", metavar="NAME")
    create.add_argument("--admin", action="store_true", help="it may manage keys")
    create.add_argument("--max-queued", metavar="N", type=_cap, help="jobs it may have waiting")
    create.add_argument("--max-running", metavar="N", type=_cap, help="jobs it may have running")
    create.add_argument(
        "--model",
        metavar="NAME",
        action="append",
        dest="models",
        help="the only model it may use; more than one with more of these",
    )
    create.add_argument("--read-only", action="store_true", help="it may read, but not submit")
    create.add_argument(
        "--daily-seconds", metavar="N", type=_cap, help="of clips it may ask for in a UTC day"
    )
    create.add_argument(
        "--daily-usd",
        metavar="N",
        type=_cap,
        help="dollars it may spend on hosted models in a UTC day; by default the settings' limit",
    )
    actions.add_parser("list", help="show the keys without their secrets")
    rotate = actions.add_parser(
        "rotate", help="give a key a new secret and print it, only this once"
    )
    rotate.add_argument("name", metavar="NAME")
    rotate.add_argument(
        "--overlap",
        metavar="HOURS",
        type=_overlap,
        default=timedelta(),
        help="how long the old one works too, up to 24; without it the old one stops at once",
    )
    revoke = actions.add_parser("revoke", help="end a key for good")
    revoke.add_argument("name", metavar="NAME")
    return parser.parse_args(arguments)


def manage_keys(asked: argparse.Namespace, settings: Settings) -> int:
    """Run the command; a key goes to stdout and all other text to stderr."""
    db = open_database(settings)
    try:
        _ACTIONS[asked.action](Keys(db), asked)
    except DatabaseUnavailable as error:
        print(f"the database cannot be used: {error.cause}", file=sys.stderr)
        return 1
    except AppError as error:
        print(error.message, file=sys.stderr)
        return 1
    finally:
        db.close()
    return 0


def open_database(settings: Settings) -> Database:
    url = settings.database_url.get_secret_value()
    return Database(url, deadline=DEADLINE, pool_size=1, name="keys")


def _create(keys: Keys, asked: argparse.Namespace) -> None:
    _, given = keys.create(
        asked.name,
        is_admin=asked.admin,
        max_queued=asked.max_queued,
        max_running=asked.max_running,
        models=asked.models,
        is_read_only=asked.read_only,
        daily_seconds=asked.daily_seconds,
        daily_usd=asked.daily_usd,
    )
    _show_once(given)


def _rotate(keys: Keys, asked: argparse.Namespace) -> None:
    with _names_known(keys, asked.name):
        key, given = keys.rotate_named(asked.name, overlap=asked.overlap)
    _show_once(given)
    until = key.previous_works_until
    end = "no longer works" if until is None else f"works until {_minute(until)} UTC"
    print(f"the old one {end}; jobs, caps and {key.prefix} stay", file=sys.stderr)


def _list(keys: Keys, asked: argparse.Namespace) -> None:
    rows = [HEAD, *(_row(key) for key in keys.all())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())


def _revoke(keys: Keys, asked: argparse.Namespace) -> None:
    with _names_known(keys, asked.name):
        key = keys.revoke_named(asked.name)
    print(f"revoked {key.name} ({key.prefix}…); its jobs go on")


@contextlib.contextmanager
def _names_known(keys: Keys, name: str) -> Iterator[None]:
    """List the existing names to an admin who misspelled one."""
    try:
        yield
    except NotFound as error:
        known = ", ".join(key.name for key in keys.all() if key.revoked_at is None) or "none"
        raise NotFound(f"there is no key named {name}; there are: {known}") from error


def _show_once(given: str) -> None:
    print(given)
    print("keep it: it is not stored and cannot be shown again", file=sys.stderr)


def _row(key: ApiKey) -> tuple[str, ...]:
    return (
        key.name,
        key.prefix,
        "yes" if key.is_admin else "",
        str(key.max_queued or ""),
        str(key.max_running or ""),
        str(key.daily_seconds or ""),
        ",".join(sorted(key.models or ())),
        "yes" if key.is_read_only else "",
        _minute(key.created_at),
        _minute(key.last_used_at),
        _minute(key.rotated_at),
        _minute(key.previous_works_until),
        _minute(key.revoked_at),
    )


def _minute(time: datetime | None) -> str:
    return "" if time is None else f"{time:%Y-%m-%d %H:%M}"


def _cap(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("a whole number from 1 on")
    return int(text)


def _overlap(text: str) -> timedelta:
    most = MOST_OVERLAP // timedelta(hours=1)
    try:
        hours = float(text)
    except ValueError:
        hours = -1
    if not 0 <= hours <= most:
        raise argparse.ArgumentTypeError(f"hours from 0 to {most}, like 1 or 0.5")
    return timedelta(hours=hours)


_ACTIONS: Final = {"create": _create, "list": _list, "rotate": _rotate, "revoke": _revoke}
