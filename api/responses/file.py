"""A job's files over HTTP: conditional, in ranges, from the storage or by its own link."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import chain
from typing import Any, Final

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from api.auth.caller import Caller
from api.middleware.request_log import AnswerCut
from api.middleware.security_headers import FILE_POLICY
from api.ports import Ports
from api.problems import problem_response
from shared.errors import (
    NotFound,
    RangeNotSatisfiable,
    Unavailable,
)
from shared.jobs.files import check_kept, check_previewed, finished_file, no_preview_yet
from shared.jobs.inputs import Input
from shared.jobs.job import Job, Variant, no_such_job, parse_id
from shared.jobs.preview_store import CONTENT_TYPE as PREVIEW_TYPE
from shared.jobs.preview_store import PreviewStore
from shared.jobs.queries import JobQueries
from shared.jobs.storage_keys import FIRST
from shared.storage import Content, Storage

_TAG: Final = re.compile(r'(?:W/)?"[^"]*"|\*')


LINK_LIVES: Final = timedelta(minutes=15)

Download = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a read from the storage on a thread, in its owner's turn."""

_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")
_SUFFIXES: Final = {
    "video/mp4": ".mp4",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/png": ".png",
    "image/jpeg": ".jpg",
}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class File:
    """One stored file as a client names it; `sha256` is lower-case hex."""

    key: str
    name: str
    content_type: str
    sha256: str
    bytes: int

    @property
    def etag(self) -> str:
        return f'"{self.sha256}"'


@dataclass(frozen=True)
class Span:
    """Bytes `first` to `last` of a file, both included."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


async def serve(
    request: Request,
    ports: Ports,
    caller: Caller,
    job_id: str,
    variant: Variant,
    *,
    name: str = FIRST,
    is_here: bool = False,
) -> Response:
    """Answer with a file of a job, a part of it, a link to it, 304 or 416.

    Args:
        name: the name of the input, if the variant is `input`.
        is_here: the bytes come from this gateway, also if the store is public.

    Raises:
        NotFound: there is no such job, or it was not asked for such a file.
        LinkExpired: the caller has only a link, which was ended.
        JobNotReady, JobTerminal: there is no result yet, or there will be no result.
        Gone: the file has expired.
    """
    find = partial(_job, ports, caller, job_id, variant, name)
    job = await ports.pools.database.run(find, owner_id=caller.owner_id)
    download: Download = partial(ports.pools.downloads.run, owner_id=job.owner_id)
    if variant is Variant.PREVIEW:
        body = await download(partial(_preview, ports.previews, job))
        return _shown(request, caller, job, body)
    if variant is Variant.INPUT:
        look = partial(_find_input, ports.queries, job, name)
        given = await ports.pools.database.run(look, owner_id=job.owner_id)
        file: File = await download(partial(_input, ports.storage, job, given))
    else:
        file = _file(job, variant)
    headers = _headers(file)
    if caller.link is not None:
        # A page may embed a clip by its link alone, because a link is enough to read it.
        headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    if is_known(file.etag, request.headers.get("if-none-match")):
        return Response(status_code=304, headers=headers)
    stored = ports.storage.presign(
        file.key, content_type=file.content_type, file_name=file.name, expires=LINK_LIVES
    )
    if stored is not None and not is_here:
        kept = {"Cross-Origin-Resource-Policy"} & headers.keys()
        headers = {"Cache-Control": "no-store", **{name: headers[name] for name in kept}}
        return RedirectResponse(stored, status_code=307, headers=headers)
    return await _send(request, ports, file, headers, download)


def _preview(previews: PreviewStore, job: Job) -> bytes:
    check_previewed(job)
    body = previews.get(job.id, job.attempt)
    if body is None:
        raise no_preview_yet()
    return body


def _shown(request: Request, caller: Caller, job: Job, body: bytes) -> Response:
    """Answer with a preview, whose bytes are already in memory."""
    digest = hashlib.sha256(body).hexdigest()
    name = f"{job.public_id}.preview.webp"
    headers = _headers(File("", name, PREVIEW_TYPE, digest, len(body)))
    del headers["Accept-Ranges"]
    if caller.link is not None:
        headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    if is_known(f'"{digest}"', request.headers.get("if-none-match")):
        return Response(status_code=304, headers=headers)
    content = b"" if request.method == "HEAD" else body
    headers["Content-Length"] = str(len(body))
    return Response(content, headers=headers, media_type=PREVIEW_TYPE)


async def _send(
    request: Request, ports: Ports, file: File, headers: dict[str, str], download: Download
) -> Response:
    """Send a file or the part that was asked for, passed on from the storage; or answer 416."""
    try:
        span = _span(request, file)
    except RangeNotSatisfiable as error:
        refusal = problem_response(error, request.scope)
        refusal.headers["Content-Range"] = f"bytes */{file.bytes}"
        return refusal
    status = 200
    if span is not None:
        status = 206
        headers["Content-Range"] = f"bytes {span.first}-{span.last}/{file.bytes}"
    headers["Content-Length"] = str(file.bytes if span is None else len(span))
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=file.content_type)
    chunks = await download(partial(_start, ports.storage, file.key, span))
    is_whole = span is None or len(span) == file.bytes
    stream = _stream(chunks, download, whole=file if is_whole else None)
    return StreamingResponse(stream, status, headers=headers, media_type=file.content_type)


def _job(ports: Ports, caller: Caller, job_id: str, variant: Variant, name: str) -> Job:
    """Return the caller's job, or the job of the file that a link opens."""
    if caller.link is None:
        return ports.queries.get(parse_id(job_id), owner_id=caller.owner_id)
    if (caller.link.id, caller.link.variant, FIRST) != (parse_id(job_id), variant, name):
        raise no_such_job()
    return ports.queries.behind(caller.link)


def _input(storage: Storage, job: Job, given: Input) -> File:
    check_kept(job)
    name = "input" if given.name == FIRST else f"input.{given.name}"
    size = storage.size(given.key)
    return File(given.key, f"{job.public_id}.{name}.png", "image/png", given.sha256, size)


def _find_input(queries: JobQueries, job: Job, name: str) -> Input:
    inputs = queries.inputs(job)
    for given in inputs:
        if given.name == name:
            return given
    there = ", ".join(given.name for given in inputs)
    raise NotFound(f"this job has no input of that name; it has {there}")


def _file(job: Job, variant: Variant) -> File:
    artifact = finished_file(job, variant)
    suffix = _SUFFIXES.get(artifact.content_type, "")
    middle = "" if variant is Variant.VIDEO else f".{variant}"
    name = f"{job.public_id}{middle}{suffix}"
    return File(artifact.key, name, artifact.content_type, artifact.sha256, artifact.bytes)


def _headers(file: File) -> dict[str, str]:
    digest = base64.b64encode(bytes.fromhex(file.sha256)).decode()
    return {
        "ETag": file.etag,
        "Accept-Ranges": "bytes",
        "Repr-Digest": f"sha-256=:{digest}:",
        "Content-Disposition": f'inline; filename="{file.name}"',
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": FILE_POLICY,
    }


def _span(request: Request, file: File) -> Span | None:
    """Return the part asked for; None means all of it, also if the file has changed since.

    Several ranges at once, and values that are not ranges, get the whole file.
    """
    asked = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    unchanged = request.headers.get("if-range") in (None, file.etag)
    if asked is None or asked[1] == asked[2] == "" or not unchanged:
        return None
    # A number with more digits than any size has would only cost time to read.
    first, last = [digits.lstrip("0")[:20] or digits[:1] for digits in asked.groups()]
    if not first:
        span = Span(max(0, file.bytes - int(last)), file.bytes - 1)
        is_empty = int(last) == 0
    else:
        span = Span(int(first), min(int(last or file.bytes), file.bytes - 1))
        if last and int(last) < int(first):
            return None
        is_empty = int(first) >= file.bytes
    if is_empty:
        raise RangeNotSatisfiable(f"the file has {file.bytes} bytes; ask for some of them")
    return span


def _start(storage: Storage, key: str, span: Span | None) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes and the rest: a failure before that can still be answered 503."""
    wanted = None if span is None else f"bytes={span.first}-{span.last}"
    content: Content = storage.open(key, byte_range=wanted)
    return next(content.chunks, b""), content.chunks


async def _stream(
    started: tuple[bytes, Iterator[bytes]], download: Download, *, whole: File | None
) -> AsyncIterator[bytes]:
    first, rest = started
    chunks: Iterator[bytes] = chain((first,), rest)
    if whole is not None:
        chunks = _checked(chunks, whole)
    with closing(rest):  # type: ignore[type-var]
        try:
            while chunk := await download(partial(next, chunks, b"")):
                yield chunk
        except Unavailable as error:
            raise AnswerCut(error.message) from error


def _checked(chunks: Iterator[bytes], file: File) -> Iterator[bytes]:
    """Yield the file's bytes, the last ones only after all of them have the hash of its row.

    Raises:
        AnswerCut: the store sent other bytes; the client gets fewer bytes than Content-Length.
    """
    digest, count, held = hashlib.sha256(), 0, b""
    for chunk in chunks:
        digest.update(chunk)
        count += len(chunk)
        if count > file.bytes:
            break
        if held:
            yield held
        held = chunk
    if digest.hexdigest() != file.sha256:
        _log.error("stored_file_differs", key=file.key)
        raise AnswerCut(f"the stored {file.key} is not the file whose hash its job's row has")
    yield held


def is_known(etag: str, if_none_match: str | None) -> bool:
    """Say whether the client has the body with this validator; the comparison is weak here."""
    tags = {tag.removeprefix("W/") for tag in _TAG.findall(if_none_match or "")}
    return "*" in tags or etag.removeprefix("W/") in tags
