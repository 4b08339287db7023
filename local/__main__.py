"""`python -m local`: Stillreel on this machine, without Docker."""

import ipaddress
import os
import sys

from pydantic import ValidationError

from local.console import say
from local.launcher import launch
from local.part import CannotStart
from shared.settings import Settings


def main() -> int:
    try:
        launch(read_settings())
    except CannotStart as error:
        say(f"stillreel: {error.message}")
        return 1
    except OSError as error:
        say(f"stillreel: {error.strerror}: {error.filename}")
        return 1
    return 0


def read_settings() -> Settings:
    """Return the settings; PORT and HOST alone count as STILLREEL_PORT and STILLREEL_HOST.

    Raises:
        CannotStart: a setting has a value it cannot have.
    """
    if port := os.environ.get("PORT"):
        os.environ["STILLREEL_PORT"] = port
    if (host := os.environ.get("HOST")) and _is_address(host):
        os.environ["STILLREEL_HOST"] = host
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise CannotStart(f"STILLREEL_{name}: {first['msg']}") from error


def _is_address(host: str) -> bool:
    """Tell an address from a machine's name, which some shells export as HOST."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


if __name__ == "__main__":
    sys.exit(main())
