"""/openapi.json, made once in a process for all files that need it."""

from functools import cache
from typing import Any

from api.app import create_app
from shared.settings import Settings


@cache
def document() -> dict[str, Any]:
    return create_app(Settings(_env_file=None)).openapi()
