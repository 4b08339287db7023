"""Uploads as Replicate's clients see files: they bring an image before the prediction."""

import hashlib
from datetime import datetime
from typing import Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from api.auth.caller import Authenticated
from api.body_limit import takes_image
from api.dependencies import BaseUrl, Given
from api.openapi import PROBLEMS, file_form
from api.route import Route
from api.routes.uploads import (
    UploadView,
    create_upload,
    delete_upload,
    find_upload,
    get_upload,
    keep_file,
)
from shared.errors import AppError
from shared.jobs.prediction import PREFIX

router = APIRouter(
    route_class=Route, prefix=f"{PREFIX}/files", tags=["replicate"], responses=PROBLEMS
)

PART: Final = "content"


class FileView(BaseModel):
    """A file; its name and type are not kept, and `checksums` are sent only when it is made."""

    id: str
    name: str
    content_type: str = "application/octet-stream"
    size: int
    etag: str
    checksums: dict[str, str]
    metadata: dict[str, str] = {}
    created_at: datetime
    expires_at: datetime
    urls: dict[str, str]


@router.post("", status_code=201, openapi_extra=file_form(PART))
@takes_image
async def create_file(
    request: Request, ports: Given, caller: Authenticated, base_url: BaseUrl
) -> FileView:
    """Store an image for a prediction from the part named `content`; other parts are ignored."""
    made = await create_upload(ports, caller, base_url)
    upload = await find_upload(ports, caller.owner_id, made.id)
    try:
        body = await keep_file(request, ports, upload, part=PART, is_alone=False)
    except AppError:
        await delete_upload(made.id, ports, caller)
        raise
    return _view(made, base_url, size=len(body), sha256=hashlib.sha256(body).hexdigest())


@router.get("/{file_id}")
async def get_file(
    file_id: str, ports: Given, caller: Authenticated, base_url: BaseUrl
) -> FileView:
    """Show a file; it is kept for at most a day."""
    upload = await get_upload(file_id, ports, caller, base_url)
    return _view(upload, base_url, size=upload.bytes or 0)


@router.delete("/{file_id}", status_code=204, response_class=Response)
async def delete_file(file_id: str, ports: Given, caller: Authenticated) -> None:
    """Remove a file; predictions that used it have copies of their own."""
    await delete_upload(file_id, ports, caller)


def _view(upload: UploadView, base_url: str, *, size: int, sha256: str | None = None) -> FileView:
    return FileView(
        id=upload.id,
        name=upload.id,
        size=size,
        etag=sha256 or upload.id,
        checksums={} if sha256 is None else {"sha256": sha256},
        created_at=upload.created_at,
        expires_at=upload.expires_at,
        urls={"get": f"{base_url}{PREFIX}/files/{upload.id}"},
    )
