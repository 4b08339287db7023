"""`stillreel keys`: list, create, rotate, revoke."""

from argparse import Namespace
from datetime import datetime

from stillreel.client import Client
from stillreel.command.console import Screen
from stillreel.installation import NewKey


def run(client: Client, typed: Namespace, screen: Screen) -> int:
    match typed.action:
        case "list":
            _list(client, screen)
        case "create":
            made = client.create_key(
                typed.name,
                is_admin=typed.admin,
                max_queued=typed.max_queued,
                max_running=typed.max_running,
            )
            _show(screen, made)
        case "rotate":
            _show(screen, client.rotate_key(typed.key, overlap_hours=typed.overlap_hours))
        case "revoke":
            revoked = client.revoke_key(typed.key)
            if screen.is_json:
                screen.json(revoked.raw)
            else:
                screen.line(f"{revoked.id} {revoked.name} is revoked")
    return 0


def _list(client: Client, screen: Screen) -> None:
    keys = client.list_keys()
    if screen.is_json:
        screen.json([key.raw for key in keys])
        return
    screen.table(
        ("id", "name", "begins with", "admin", "made", "last used", "revoked"),
        (
            (
                key.id,
                key.name,
                key.prefix,
                "yes" if key.is_admin else "",
                _day(key.created_at),
                _day(key.last_used_at),
                _day(key.revoked_at),
            )
            for key in keys
        ),
    )


def _show(screen: Screen, made: NewKey) -> None:
    """Print only a key's secret, so that it can be copied."""
    if screen.is_json:
        screen.json(made.raw)
        return
    screen.note(f"{made.id} {made.name}: this is shown once, keep it")
    screen.line(made.key)


def _day(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d")
