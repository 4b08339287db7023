"""`stillreel models` and `estimate`."""

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from stillreel.client import Client
from stillreel.command.console import Screen, duration
from stillreel.command.fields import fields_of
from stillreel.errors import NotFound, StillreelError


def list_models(client: Client, typed: Namespace, screen: Screen) -> int:
    models = client.models()
    if screen.is_json:
        screen.json([model.raw for model in models])
        return 0
    columns = ("model", "what it is", "workers", "AI", "licence")
    screen.table(
        columns,
        (
            (
                model.id,
                model.title,
                model.workers,
                "yes" if model.ai_generated else "no",
                model.licence.get("name"),
            )
            for model in models
        ),
    )
    return 0


def estimate(client: Client, typed: Namespace, screen: Screen) -> int:
    """Say when a clip would be ready; in a pipe, in the service's own words."""
    model = typed.model_asked
    if model is None:
        models = client.models()
        if not models:
            raise StillreelError("the service has no model yet; it is starting, or has no worker")
        model = models[0].id
    try:
        found = client.estimate(model, **fields_of(typed))
    except NotFound as error:
        if error.code != "not_found":
            raise
        raise StillreelError("this service gives no estimates; it is an older version") from error
    if screen.is_json:
        screen.json(found)
    else:
        screen.table(("", ""), rows(found))
    return 0


def rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is known, one line each, with seconds in a form for people."""
    lines = []
    for name, value in found.items():
        words = name.removesuffix("_seconds").replace("_", " ")
        if isinstance(value, Mapping):
            lines += [(f"{words} {inner}", shown) for inner, shown in rows(value)]
        elif name.endswith("_seconds") and isinstance(value, int | float):
            lines.append((words, duration(value)))
        elif value is not None and name != "object":
            lines.append((words, str(value)))
    return lines
