"""The API's pages: Swagger UI from an installed package, so that nothing external is loaded."""

from pathlib import Path
from typing import Final

import fastapi_offline
from fastapi import APIRouter
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

FOLDER: Final = Path(__file__).parent.parent / "docs"
SWAGGER_UI: Final = Path(fastapi_offline.__file__).parent / "static"

router = APIRouter(include_in_schema=False)


@router.get("/")
async def home() -> RedirectResponse:
    return RedirectResponse("docs")


@router.get("/docs")
async def docs() -> FileResponse:
    return FileResponse(FOLDER / "index.html")


@router.get("/docs/start.js")
async def start() -> FileResponse:
    return FileResponse(FOLDER / "start.js", media_type="text/javascript")


swagger_ui = StaticFiles(directory=SWAGGER_UI)
