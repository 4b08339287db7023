"""The page: plain files from api/web; nothing is built, and nothing comes from another origin."""

from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.staticfiles import StaticFiles

from api.middleware.security_headers import ASSET, page
from api.route import Route

FOLDER: Final = Path(__file__).parent.parent / "web"
POLICY: Final = (
    "connect-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; script-src 'self';"
    " style-src 'self'"
)
"""Chosen photos and the clips of a key's holder come as blobs, the tab's icon as data."""

TYPES: Final = {".js": "text/javascript", ".mjs": "text/javascript"}
"""A machine's own list may have another type for modules, and a browser runs none of a wrong
type."""

router = APIRouter(route_class=Route, include_in_schema=False)


@router.get("/")
@router.get("/admin")
async def home(request: Request) -> Response:
    response = await parts.get_response("index.html", request.scope)
    response.headers.update(page(POLICY))
    return response


class _Parts(StaticFiles):
    """The page's own files, which the browser asks for again by their ETag."""

    def file_response(self, full_path: Any, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(full_path, *args, **kwargs)
        response.headers.update(ASSET)
        kind = TYPES.get(Path(full_path).suffix)
        if kind is not None and "content-type" in response.headers:
            response.headers["Content-Type"] = f"{kind}; charset=utf-8"
        return response


parts = _Parts(directory=FOLDER)
