"""/openapi.json, made once in a process for all files that need it."""

from typing import Any, Final

from api.app import create_app
from shared.settings import Settings

DOCUMENT: Final[dict[str, Any]] = create_app(Settings(_env_file=None)).openapi()
