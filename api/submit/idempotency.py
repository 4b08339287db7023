"""The Idempotency-Key, and which requests count as the same."""

import hashlib
import json
import re
from typing import Annotated, Final

from fastapi import Depends, Header

from api.submit.image_source import ImageFrame, ImageSource, ImageUpload, ImageUrl
from api.submit.images import Images
from shared.errors import InvalidRequest
from shared.jobs.create import CreateJob

_TOKEN: Final = re.compile(r"[\x20-\x7e]{1,255}")


async def idempotency_key(
    idempotency_key: Annotated[
        str | None, Header(description="The same key and request give the same job.")
    ] = None,
) -> str | None:
    """Return the key, sent bare or as a quoted string.

    Raises:
        InvalidRequest: it is empty, too long or not plain ASCII.
    """
    if idempotency_key is None:
        return None
    key = idempotency_key.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1].strip()
    if not _TOKEN.fullmatch(key):
        raise InvalidRequest(
            "the Idempotency-Key must have 1 to 255 printable ASCII characters",
            param="Idempotency-Key",
        )
    return key


def fingerprint(fields: CreateJob, images: Images) -> str:
    """Return a hash that is equal for equal requests, however they were spelled.

    For an image behind a URL it uses the URL, so a key that made a job is answered without a
    fetch.
    """
    # Without defaults, so that a release that adds a field still recognises earlier requests.
    said = fields.model_dump(mode="json", exclude_defaults=True, exclude={"webhook": {"headers"}})
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    digest.update(_said(images.image))
    for name, image in images.more.items():
        digest.update(f"{name}\0".encode() + _said(image))
    for frame, image in images.keyframes:
        digest.update(f"keyframe {frame}\0".encode() + _said(image))
    return digest.hexdigest()


def _said(image: ImageSource) -> bytes:
    match image:
        case ImageUrl(url):
            return b"url\0" + url.encode()
        case ImageUpload(upload_id):
            return b"upload\0" + upload_id.bytes
        case ImageFrame(job_id, frame):
            return b"frame\0" + job_id.bytes + str(frame).encode()
        case _:
            return hashlib.sha256(image).digest()


Idempotency = Annotated[str | None, Depends(idempotency_key)]
