"""`python -m local`: Stillreel on this machine, without Docker."""

import sys

from local.cli_settings import read_settings, strange_settings
from local.console import say
from local.launcher import launch
from local.processes.process import CannotStart


def main() -> int:
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
