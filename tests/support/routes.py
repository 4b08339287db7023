"""Every route an app has, also those that its own description leaves out."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def routes(app: FastAPI) -> Iterator[str]:
    """Yield `METHOD path` of every route; a mounted folder counts as one that is read."""
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
