"""Uploads: a file that a job will use, sent to the store or through this gateway."""

from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Annotated, Final, Literal
from uuid import UUID

import structlog
from fastapi import APIRouter, Body, Depends, Request, Response
from pydantic import BaseModel

from api.auth.caller import Authenticated
from api.body_limit import declared_bytes, takes_image
from api.dependencies import BaseUrl, Given, known_query
from api.openapi import PROBLEMS, file_form
from api.ports import Ports
from api.route import Route
from api.submit.body import receive
from api.submit.json_body import KnownNames
from shared.errors import AppError, Gone, InvalidRequest
from shared.errors.images import ImageTooLarge
from shared.uploads import LIVES, Upload, parse_upload_id

router = APIRouter(
    route_class=Route,
    prefix="/v1/uploads",
    tags=["uploads"],
    dependencies=[Depends(known_query)],
    responses=PROBLEMS,
)

FILE: Final = "file"
_log = structlog.get_logger(__name__)


class CreateUpload(KnownNames):
    """What will be uploaded."""

    kind: Literal["image"] = "image"


class UploadView(BaseModel):
    """An upload as its owner sees it; `bytes` is null until the file is there.

    Send the file to `url` by POST as multipart/form-data: all `fields` first, the file last, in a
    part named `file`.
    """

    id: str
    object: Literal["upload"] = "upload"
    kind: str
    url: str
    fields: dict[str, str]
    max_bytes: int
    bytes: int | None
    created_at: datetime
    expires_at: datetime


@router.post("", status_code=201)
async def create_upload(
    ports: Given,
    caller: Authenticated,
    base_url: BaseUrl,
    wanted: Annotated[CreateUpload | None, Body()] = None,
) -> UploadView:
    """Prepare an upload of at most `max_bytes`; a job then names it as `upload_id`."""
    create = partial(
        ports.uploads.create,
        caller.owner_id,
        kind=(wanted or CreateUpload()).kind,
        max_bytes=ports.settings.max_upload_bytes,
    )
    upload = await ports.pools.database.run(create, owner_id=caller.owner_id)
    _log.info("upload_created", upload=upload.public_id)
    return _view(ports, upload, base_url, size=None)


@router.get("/{upload_id}")
async def get_upload(
    upload_id: str, ports: Given, caller: Authenticated, base_url: BaseUrl
) -> UploadView:
    """Show an upload, and whether its file is there."""
    upload = await find_upload(ports, caller.owner_id, upload_id)
    size = await ports.pools.downloads.run(partial(_size, ports, upload), owner_id=caller.owner_id)
    return _view(ports, upload, base_url, size=size)


@router.delete("/{upload_id}", status_code=204, response_class=Response)
async def delete_upload(upload_id: str, ports: Given, caller: Authenticated) -> None:
    """Remove an upload; jobs that used it have copies of their own."""
    end = partial(ports.uploads.end, parse_upload_id(upload_id), owner_id=caller.owner_id)
    upload = await ports.pools.database.run(end, owner_id=caller.owner_id)

    def remove() -> None:
        with suppress(AppError):  # The keeper removes it again later.
            ports.storage.delete(upload.key)

    await ports.pools.storing.run(remove, owner_id=caller.owner_id)


@router.post(
    "/{upload_id}/content", status_code=204, response_class=Response, openapi_extra=file_form(FILE)
)
@takes_image
async def receive_upload(
    request: Request, upload_id: str, ports: Given, caller: Authenticated
) -> None:
    """Receive an upload's file if the store is not public; a second file replaces the first."""
    upload = await find_upload(ports, caller.owner_id, upload_id)  # Checked before a byte is read.
    await keep_file(request, ports, upload, part=FILE, is_alone=True)


async def keep_file(
    request: Request, ports: Ports, upload: Upload, *, part: str, is_alone: bool
) -> bytes:
    """Store one part of a form as the file of an upload, and return it.

    Args:
        is_alone: refuse other file parts; else they are ignored.

    Raises:
        InvalidRequest: there is no such part.
        ImageTooLarge: it is larger than an upload may be.
    """
    owner_id, pools = upload.owner_id, ports.pools
    async with pools.body_memory.reserve(owner_id) as reservation:
        size = declared_bytes(request.headers) or upload.max_bytes
        async with pools.spool.turn(owner_id, size):
            received = await receive(request, max_bytes=upload.max_bytes, reservation=reservation)
        body = received.files.get(part)
        if body is None or (is_alone and len(received.files) > 1):
            raise InvalidRequest(
                f"send multipart/form-data with the file in a part named {part}"
                f"{', and no other' if is_alone else ''}; an empty file counts as not sent",
                param=part,
            )
        if len(body) > upload.max_bytes:
            raise ImageTooLarge(
                f"the file has {len(body)} bytes; the limit is {upload.max_bytes}", param=part
            )
        put = partial(ports.storage.put, upload.key, body, content_type="application/octet-stream")
        await pools.storing.run(put, owner_id=owner_id)
    return body


async def find_upload(ports: Ports, owner_id: UUID, upload_id: str) -> Upload:
    """Return an owner's upload."""
    find = partial(ports.uploads.get, parse_upload_id(upload_id), owner_id=owner_id)
    upload: Upload = await ports.pools.database.run(find, owner_id=owner_id)
    return upload


def _size(ports: Ports, upload: Upload) -> int | None:
    try:
        return ports.storage.size(upload.key)
    except Gone:
        return None


def _view(ports: Ports, upload: Upload, base_url: str, *, size: int | None) -> UploadView:
    form = ports.storage.presign_post(upload.key, max_bytes=upload.max_bytes, expires=LIVES)
    here = (f"{base_url}/v1/uploads/{upload.public_id}/content", dict[str, str]())
    url, fields = form or here
    return UploadView(
        id=upload.public_id,
        kind=upload.kind,
        url=url,
        fields=fields,
        max_bytes=upload.max_bytes,
        bytes=size,
        created_at=upload.created_at,
        expires_at=upload.expires_at,
    )
