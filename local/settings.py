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
    given: dict[str, Any] = {}
    if port := os.environ.get("PORT"):
        given["port"] = port
    if (host := os.environ.get("HOST")) and _is_address(host):
        given["host"] = host
    try:
        return Settings(**given)
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
