"""The API's pages: Swagger UI from an installed package, so that nothing external is loaded."""

from pathlib import Path
from typing import Any, Final

import fastapi_offline
from fastapi import APIRouter, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from api.middleware.security_headers import ASSET, page
from api.route import Route

FOLDER: Final = Path(__file__).parent.parent / "docs"
SWAGGER_UI: Final = Path(fastapi_offline.__file__).parent / "static"
POLICY: Final = "connect-src 'self'; img-src 'self' data:; script-src 'self'; style-src 'self'"
"""Swagger UI's stylesheet contains its images; all else comes from this origin."""

router = APIRouter(route_class=Route, include_in_schema=False)


@router.get("/docs")
async def docs() -> FileResponse:
    return FileResponse(FOLDER / "index.html", headers=page(POLICY))


@router.get("/docs/start.js")
async def start() -> FileResponse:
    return FileResponse(FOLDER / "start.js", media_type="text/javascript", headers=ASSET)


class _Parts(StaticFiles):
    """Swagger UI's own files, which the browser asks for again by their ETag."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(ASSET)
        return response


swagger_ui = _Parts(directory=SWAGGER_UI)
