"""The settings as a person gives them to `make run` and `make demo`."""

import ipaddress
import os
from typing import Any

from dotenv import dotenv_values
from pydantic import ValidationError

from local.processes.process import MARK, CannotStart
from shared.settings import Settings, misspelled_settings, wrong_settings


def read_settings() -> Settings:
    """Return the settings; PORT and HOST alone count as STILLREEL_PORT and STILLREEL_HOST.

    Raises:
        CannotStart: a setting has a value it cannot have.
    """
    try:
        return Settings(**given_place())
    except ValidationError as error:
        raise CannotStart(wrong_settings(error)) from error


def strange_settings() -> list[str]:
    """Return a line for each variable, here or in `.env`, that only looks like a setting."""
    given = {*os.environ, *dotenv_values(".env")} - {MARK}
    return list(misspelled_settings(given, Settings.model_fields))


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
