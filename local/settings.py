"""The settings as a person gives them to `make run` and `make demo`."""

import ipaddress
import os
from typing import Any

from pydantic import ValidationError

from local.part import CannotStart
from shared.settings import Settings


def read_settings() -> Settings:
    """Return the settings; PORT and HOST alone count as STILLREEL_PORT and STILLREEL_HOST.

    Raises:
        CannotStart: a setting has a value it cannot have.
    """
    try:
        return Settings(**given_place())
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise CannotStart(f"STILLREEL_{name}: {first['msg']}") from error


def given_place() -> dict[str, Any]:
    """Return what PORT and HOST say, as settings; nothing where neither does."""
    given = {"port": os.environ.get("PORT"), "host": os.environ.get("HOST")}
    if given["host"] and not _is_address(given["host"]):
        del given["host"]
    return {name: value for name, value in given.items() if value}


def _is_address(host: str) -> bool:
    """Tell an address from a machine's name, which some shells export as HOST."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
