"""The settings as a person gives them to `make run` and `make demo`."""

import ipaddress
import os
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_settings import SettingsError

from local.processes.process import CannotStart
from shared.env_file import read_env_file, unset_variables
from shared.settings import Settings
from shared.wrong_settings import misspelled_settings, unprefixed_settings, wrong_settings

ENV_FILE: Final = Path(".env")


def read_settings() -> Settings:
    """Return the settings; PORT and HOST mean the same as STILLREEL_PORT and STILLREEL_HOST.

    Raises:
        CannotStart: a setting has an impossible value.
    """
    try:
        return Settings(**given_place())
    except ValidationError as error:
        raise CannotStart(wrong_settings(error)) from error
    except SettingsError as error:
        raise CannotStart(str(error)) from error


def strange_settings() -> list[str]:
    """Return a line for each variable that only looks like a setting or that `.env` uses unset."""
    in_file = read_env_file(ENV_FILE)
    given = {*os.environ, *in_file}
    misspelled = [
        *misspelled_settings(given, Settings.model_fields),
        *unprefixed_settings(in_file, Settings.model_fields),
    ]
    return misspelled + [
        f"in .env ${name} names a variable that is not set, so it stands for nothing; for a dollar"
        " sign write $$, or put the value in single quotes"
        for name in unset_variables(ENV_FILE)
    ]


def given_place() -> dict[str, Any]:
    """Return PORT and HOST as settings; nothing if neither is set."""
    given = {"port": os.environ.get("PORT"), "host": os.environ.get("HOST")}
    if given["host"] and not _is_address(given["host"]):
        del given["host"]
    return {name: value for name, value in given.items() if value}


def _is_address(host: str) -> bool:
    """Say whether a text is an address, not a machine's name, which some shells export as HOST."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
