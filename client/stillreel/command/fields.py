"""From the words of the command line to the fields of the API."""

import json
from argparse import Namespace
from typing import Any, Final, cast

from stillreel.errors import StillreelError
from stillreel.photo import Fields

PLAIN: Final = (
    "model",
    "negative_prompt",
    "resolution",
    "width",
    "height",
    "fit",
    "num_frames",
    "fps",
    "quality",
    "num_inference_steps",
    "guidance_scale",
    "seed",
    "priority",
    "outputs",
)


class UsageError(StillreelError):
    """The command line has an error."""


def fields_of(typed: Namespace) -> Fields:
    """Return the fields of the clip; the service checks them.

    Raises:
        UsageError: a pair has no `=`.
    """
    said = {name: getattr(typed, name, None) for name in PLAIN}
    fields: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    if metadata := pairs(getattr(typed, "metadata", []), "--metadata"):
        fields["metadata"] = metadata
    for name, value in pairs(typed.set, "--set").items():
        fields[name] = _value(value)
    return cast(Fields, fields)


def pairs(given: list[str], option: str) -> dict[str, str]:
    found = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise UsageError(f"{option} takes NAME=VALUE, not {each!r}")
        found[name] = value
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
