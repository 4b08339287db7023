"""`python -m local`: Stillreel on this machine, without Docker."""

import argparse
import sys

from local.cli_settings import read_settings, strange_settings
from local.console import say
from local.launcher import launch
from local.processes.process import CannotStart


def main() -> int:
    argparse.ArgumentParser(
        prog="python -m local",
        description="Start everything on this machine; Ctrl-C stops it. It takes no arguments:"
        " PORT and the settings of docs/operations.md come from the environment or from .env.",
    ).parse_args()
    try:
        settings = read_settings()
    except CannotStart as error:
        say(f"stillreel: {error.message}")
        return 1
    try:
        for line in strange_settings():
            say(f"stillreel: {line}")
        launch(settings)
    except CannotStart as error:
        say(f"stillreel: {error.message}")
        return 1
    except OSError as error:
        place = error.filename or f"the data folder {settings.data_dir.absolute()}"
        say(f"stillreel: {place}: {error.strerror or error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
