"""Runs the command, and turns errors into one sentence and an exit status."""

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Final

from stillreel.client import Client
from stillreel.command import batch, jobs, keys, models, submit
from stillreel.command.completion import script
from stillreel.command.console import Screen
from stillreel.command.fields import UsageError
from stillreel.command.parser import make_parser
from stillreel.errors import NotAuthenticated, StillreelError, Unavailable

Run = Callable[[Client, Namespace, Screen], int]

COMMANDS: Final[dict[str, Run]] = {
    "submit": submit.run,
    "batch": batch.run,
    "watch": jobs.watch,
    "list": jobs.list_jobs,
    "cancel": jobs.cancel,
    "download": jobs.download,
    "models": models.list_models,
    "estimate": models.estimate,
    "keys": keys.run,
}

NO_KEY: Final = (
    "; set STILLREEL_KEY to an API key of this service; its operator makes one with `make key"
    " NAME=…`"
)
WRONG_KEY: Final = "; check STILLREEL_KEY, because this service does not accept its key"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    parser = make_parser()
    typed = parser.parse_args(arguments)
    if typed.command == "completion":
        sys.stdout.write(script(parser, typed.shell))
        return 0
    screen = Screen(wants_json=typed.json)
    try:
        with Client(typed.url, retries=3) as client:
            return COMMANDS[typed.command](client, typed, screen)
    except UsageError as error:
        screen.error(str(error))
        return 2
    except StillreelError as error:
        screen.error(f"{error}{advice(error)}")
        return 1
    except BrokenPipeError:
        # The reader of the output has gone; otherwise the interpreter would report it once more at
        # its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        screen.error(f"{where}{error.strerror or error}")
        return 1
    except KeyboardInterrupt:
        return 130


def advice(error: StillreelError) -> str:
    """Return what to do about the error, if the service cannot know it."""
    if isinstance(error, NotAuthenticated):
        return NO_KEY if error.code == "missing_api_key" else WRONG_KEY
    if isinstance(error, Unavailable) and error.request_id:
        return f" ({error.request_id})"
    return ""


if __name__ == "__main__":
    sys.exit(main())
