"""`python -m worker.weights`: download, list, check or remove weights, or make small ones."""

import argparse
import os
import sys
from collections.abc import Sequence

from shared.errors import AppError
from shared.proxies import sparing_own_servers
from shared.settings import Settings, read_settings
from worker.weights import commands
from worker.weights.catalogue import LAYOUTS, Layouts


def main(arguments: Sequence[str] | None = None, known: Layouts = LAYOUTS) -> int:
    """Return 0, or 1 if something is missing, damaged or refused."""
    asked = _parser().parse_args(arguments)
    settings = read_settings()
    os.environ.update(sparing_own_servers(os.environ, settings))
    try:
        return _act(asked, settings, known)
    except AppError as error:
        commands.say(f"stillreel: {error.message}")
        return 1
    except KeyboardInterrupt:
        commands.say("stillreel: stopped; the same command continues from here")
        return 1


def _act(asked: argparse.Namespace, settings: Settings, known: Layouts) -> int:
    match asked.command:
        case "pull":
            return commands.pull(asked.engines, settings, known)
        case "verify":
            return commands.verify(asked.engines, settings, known)
        case "remove":
            return commands.remove(asked.engine, settings, known)
        case "tiny":
            return commands.tiny(asked.engine, asked.folder)
        case _:
            return commands.list_all(settings, known)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worker.weights", description=__doc__)
    command = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    pull = command.add_parser(
        "pull",
        help="download what is missing; without a name for all that STILLREEL_ENGINES names",
    )
    pull.add_argument("engines", nargs="*", metavar="ENGINE")
    command.add_parser("list", help="show each engine's weights, and how much of them is here")
    verify = command.add_parser("verify", help="read every byte and compare it with the manifest")
    verify.add_argument("engines", nargs="*", metavar="ENGINE")
    remove = command.add_parser("remove", help="remove an engine's downloaded weights")
    remove.add_argument("engine", metavar="ENGINE")
    tiny = command.add_parser(
        "tiny", help="write a small random checkpoint that loads as the real one; clips are noise"
    )
    tiny.add_argument("engine", metavar="ENGINE")
    tiny.add_argument("folder", metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
