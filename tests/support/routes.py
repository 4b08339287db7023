"""Every route of an app, also those that its own description leaves out."""

import sys
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from api.app import create_app
from shared.settings import Settings

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def routes(app: FastAPI) -> Iterator[str]:
    """Yield `METHOD path` of every route; a mounted folder counts as one route with GET."""
    for route in leaves(app.routes):
        for method in route.methods or {"GET"}:
            yield f"{method} {route.path}"


def described(app: FastAPI) -> Iterator[str]:
    """Yield `METHOD path` of every operation in openapi.json."""
    for path, item in app.openapi()["paths"].items():
        for method in METHODS:
            if method in item:
                yield f"{method.upper()} {path}"


def leaves(found: Any) -> Iterator[Any]:
    """Look into included routers, which FastAPI keeps as one route each."""
    for route in found:
        if hasattr(route, "effective_candidates"):
            yield from leaves(route.effective_candidates())
        else:
            route.methods = getattr(route, "methods", None)
            yield route


if __name__ == "__main__":
    for each in sorted(leaves(create_app(Settings()).routes), key=lambda route: str(route.path)):
        handler = getattr(each, "endpoint", None)
        name = "" if handler is None else f"{handler.__module__}.{handler.__name__}"
        line = f"{','.join(sorted(each.methods or {'GET'})):10} {each.path:52} {name}"
        sys.stdout.write(f"{line.rstrip()}\n")
