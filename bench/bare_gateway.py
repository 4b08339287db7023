"""The peer of `bench/gateway.py`: a server that does only what an answer needs.

It looks up the key in memory, reads the same rows by psycopg on a thread, and returns JSON of the
same size: it takes the service's own answers from `BARE_BODIES` and writes the read values into
them.

A create parses the form, decodes the image by the same function (in the same confined processes,
or under `/unconfined` in this process), puts the PNG into the same store and inserts one row. The
relay sends each message of a Redis channel to all listeners, in an event as large as ours.
"""

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import psycopg
import redis.asyncio
import uvicorn
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from api.images import normalize
from api.images.decoder_pool import Decoders
from api.images.protocol import DecodedImage
from shared.ids import new_id
from shared.jobs.storage_keys import input_key
from shared.settings import Settings
from shared.storage import Storage

RELAYED: Final = "bare:changed"

_local = threading.local()
_KEYS = {os.environ.get("BARE_KEY", ""): "owner"}
_BODIES = json.loads(Path(os.environ.get("BARE_BODIES", os.devnull)).read_text() or "{}")


def _connection() -> psycopg.Connection[dict[str, object]]:
    if not hasattr(_local, "connection"):
        _local.connection = psycopg.connect(
            os.environ["BARE_DATABASE_URL"], autocommit=True, row_factory=dict_row
        )
    connection: psycopg.Connection[dict[str, object]] = _local.connection
    return connection


def _has_key(request: Request) -> bool:
    return request.headers.get("authorization", "").removeprefix("Bearer ") in _KEYS


def get_job(request: Request) -> Response:
    if not _has_key(request):
        return Response(status_code=401)
    job_id = request.path_params["job_id"].removeprefix("job_")
    row = _connection().execute("SELECT * FROM jobs WHERE id = %s", [job_id]).fetchone()
    if row is None:
        return Response(status_code=404)
    return _json(_shown(_BODIES["job"], row))


def list_jobs(request: Request) -> Response:
    if not _has_key(request):
        return Response(status_code=401)
    limit = int(request.query_params["limit"])
    rows = _connection().execute(_NEWEST, [os.environ["BARE_OWNER"], limit + 1]).fetchall()
    data = [_shown(item, row) for item, row in zip(_BODIES["list"]["data"], rows, strict=False)]
    return _json(_BODIES["list"] | {"data": data, "has_more": len(rows) > limit})


def list_models(request: Request) -> Response:
    if not _has_key(request):
        return Response(status_code=401)
    specs: list[Any] = [
        row["spec"] for row in _connection().execute("SELECT spec FROM engines").fetchall()
    ]
    models = zip(_BODIES["models"]["data"], specs, strict=False)
    return _json(
        _BODIES["models"] | {"data": [one | {"id": spec["name"]} for one, spec in models]}
    )


async def create_job(request: Request) -> Response:
    return await _create(request, _decoders().read_image)


async def create_job_unconfined(request: Request) -> Response:
    return await _create(request, normalize.read_image)


async def _create(request: Request, read: Callable[..., DecodedImage]) -> Response:
    if not _has_key(request):
        return Response(status_code=401)
    async with request.form() as form:
        image = form["image"]
        assert isinstance(image, UploadFile)
        body, prompt = await image.read(), str(form["prompt"])
    return await run_in_threadpool(_queue, body, prompt, read)


def _queue(body: bytes, prompt: str, read: Callable[..., DecodedImage]) -> Response:
    image = read(body, max_pixels=_settings().max_pixels)
    job_id = new_id()
    _storage().put(input_key(job_id), image.png, content_type="image/png")
    values = _template() | {
        "id": job_id,
        "image_sha256": image.sha256,
        "image_width": image.width,
        "image_height": image.height,
    }
    values["parameters"] = Jsonb(values["parameters"] | {"prompt": prompt})
    names = list(values)
    _connection().execute(
        f"INSERT INTO jobs ({', '.join(names)})"  # noqa: S608 (names of columns)
        f" VALUES ({', '.join(['%s'] * len(names))})",
        list(values.values()),
    )
    return _json(_BODIES["job"] | {"id": f"job_{job_id.hex}"}, status=202)


@cache
def _template() -> dict[str, Any]:
    """Return the values that the gateway writes for a queued job of the caller."""
    row = _connection().execute(_QUEUED, [os.environ["BARE_OWNER"]]).fetchone()
    assert row is not None
    values: dict[str, Any] = {name: value for name, value in row.items() if value is not None}
    for name in ("metadata", "metrics", "warnings"):
        values[name] = Jsonb(values[name])
    return values | {"source": "api"}


@cache
def _settings() -> Settings:
    return Settings()


@cache
def _storage() -> Storage:
    return Storage(_settings())


@cache
def _decoders() -> Decoders:
    return Decoders()


class Relay:
    """All listeners, and the one subscription that serves them."""

    def __init__(self) -> None:
        self.queues: set[asyncio.Queue[bytes]] = set()

    async def run(self) -> None:
        url = _settings().redis_url.get_secret_value()
        async with redis.asyncio.from_url(url) as client, client.pubsub() as subscription:
            await subscription.subscribe(RELAYED)
            async for message in subscription.listen():
                if message["type"] == "message":
                    event = self._event(json.loads(message["data"]))
                    for each in self.queues:
                        each.put_nowait(event)

    @staticmethod
    def _event(news: dict[str, Any]) -> bytes:
        body = _BODIES["job"] | {"id": f"job_{news['id']}", "version": news["version"]}
        said = json.dumps(body, separators=(",", ":"))
        return f"id: t{time.time_ns() // 1000}\ndata: {said}\n\n".encode()


_relay = Relay()


async def listen(request: Request) -> Response:
    if not _has_key(request):
        return Response(status_code=401)

    async def events() -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        _relay.queues.add(queue)
        try:
            yield b"retry: 2000\n\n"
            while True:
                yield await queue.get()
        finally:
            _relay.queues.discard(queue)

    return StreamingResponse(events(), media_type="text/event-stream")


@asynccontextmanager
async def _running(app: Starlette) -> AsyncIterator[None]:
    relaying = asyncio.create_task(_relay.run())
    yield
    relaying.cancel()


def _shown(body: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    return body | {"status": row["status"], "version": row["version"]}


def _json(body: object, status: int = 200) -> Response:
    return Response(json.dumps(body), status, media_type="application/json")


_NEWEST = """
SELECT * FROM jobs WHERE owner_id = %s AND deleted_at IS NULL ORDER BY id DESC LIMIT %s
"""

_QUEUED = "SELECT * FROM jobs WHERE owner_id = %s AND status = 'queued' ORDER BY id DESC LIMIT 1"

app = Starlette(
    lifespan=_running,
    routes=[
        Route("/v1/jobs", create_job, methods=["POST"]),
        Route("/unconfined/jobs", create_job_unconfined, methods=["POST"]),
        Route("/v1/events", listen),
        Route("/v1/jobs/{job_id}/events", listen),
        Route("/v1/jobs/{job_id}", get_job),
        Route("/v1/jobs", list_jobs),
        Route("/v1/models", list_models),
    ],
)

if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="error", access_log=False
    )
