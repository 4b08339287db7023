"""From the source of an image to its bytes: fetched, read or decoded."""

from functools import partial
from uuid import UUID

from api.concurrency.body_memory import Reservation
from api.images.clip_frame import clip_frame
from api.images.protocol import DecodedImage
from api.ports import Ports
from api.submit.image_source import ImageFrame, ImageSource, ImageUpload, ImageUrl
from api.submit.remote_urls import fetch_image
from shared.errors import Gone, InvalidRequest, NotFound
from shared.errors.images import ImageTooLarge, InvalidImage
from shared.jobs.files import finished_file
from shared.jobs.job import Artifact, Variant


async def image_from(
    ports: Ports, source: ImageSource, *, name: str, owner_id: UUID, reservation: Reservation
) -> DecodedImage:
    """Return an image as it is stored, from any source; `name` is its field.

    Raises:
        InvalidRequest: there is none, or it cannot be decoded; `param` begins with `name`.
        Gone, JobNotReady, JobTerminal: the named job has no clip, any longer or yet.
        Unavailable: something that it needs is away or busy.
    """
    fetch = partial(_body, ports, name=name, owner_id=owner_id, reservation=reservation)
    body = await fetch(source)
    read = partial(ports.decoders.read_image, body, max_pixels=ports.settings.max_pixels)
    try:
        image: DecodedImage = await ports.pools.decoding.run(read, owner_id=owner_id)
    except InvalidImage as error:
        if name != "image":
            error.param, error.message = name, f"{name}: {error.message}"
        raise
    return image


async def _body(
    ports: Ports, source: ImageSource, *, name: str, owner_id: UUID, reservation: Reservation
) -> bytes:
    match source:
        case ImageUrl(url):
            return await fetch_image(
                ports, url, owner_id=owner_id, reservation=reservation, name=name
            )
        case ImageUpload():
            return await _uploaded(ports, source, name, owner_id, reservation)
        case ImageFrame():
            return await _frame(ports, source, name, owner_id, reservation)
        case _:
            return source


async def _uploaded(
    ports: Ports, source: ImageUpload, name: str, owner_id: UUID, reservation: Reservation
) -> bytes:
    param = f"{name}.upload_id"
    find = partial(ports.uploads.get, source.upload_id, owner_id=owner_id)
    try:
        upload = await ports.pools.database.run(find, owner_id=owner_id)
    except NotFound as error:
        raise InvalidRequest(f"{param}: {error.message}", param=param) from error
    try:
        async with ports.pools.fetching.turn(owner_id) as run:
            size = await run(partial(ports.storage.size, upload.key))
            if size > ports.settings.max_upload_bytes:
                raise ImageTooLarge(
                    f"{param}: the image has {size} bytes; the limit is"
                    f" {ports.settings.max_upload_bytes}",
                    param=param,
                )
            await reservation.grow(size)
            body: bytes = await run(partial(ports.storage.get, upload.key))
    except Gone as error:
        raise InvalidRequest(
            f"{param}: nothing was uploaded yet; POST the file to the upload's url first",
            param=param,
        ) from error
    return body


async def _frame(
    ports: Ports, source: ImageFrame, name: str, owner_id: UUID, reservation: Reservation
) -> bytes:
    find = partial(ports.queries.get, source.job_id, owner_id=owner_id)
    try:
        job = await ports.pools.database.run(find, owner_id=owner_id)
    except NotFound as error:
        param = f"{name}.job_id"
        raise InvalidRequest(f"{param}: {error.message}", param=param) from error
    video = finished_file(job, Variant.VIDEO)
    index = _index(video, source.frame, f"{name}.frame")
    async with ports.pools.fetching.turn(owner_id) as run:
        await reservation.grow(video.bytes)
        mp4: bytes = await run(partial(ports.storage.get, video.key))
    return await ports.pools.decoding.run(partial(clip_frame, mp4, index), owner_id=owner_id)


def _index(video: Artifact, frame: int, param: str) -> int:
    count = video.num_frames or 0
    index = frame + count if frame < 0 else frame
    if not 0 <= index < count:
        raise InvalidRequest(
            f"{param}: the clip has no frame {frame}; it has {count}, 0 to {count - 1}, or"
            f" -{count} to -1 from its end",
            param=param,
        )
    return index
