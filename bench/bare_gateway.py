"""The peer of `bench/gateway.py`: the least that answers the same requests.

It looks the key up in memory, reads the same rows by psycopg on a thread, and returns JSON of
the same size: the service's own answers, which `BARE_BODIES` holds by name, with what was read
written over them.
"""

import json
import os
import threading
from pathlib import Path
from typing import Any

import psycopg
import uvicorn
from psycopg.rows import dict_row
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

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


def _shown(body: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    return body | {"status": row["status"], "version": row["version"]}


def _json(body: object) -> Response:
    return Response(json.dumps(body), media_type="application/json")


_NEWEST = """
SELECT * FROM jobs WHERE owner_id = %s AND deleted_at IS NULL ORDER BY id DESC LIMIT %s
"""

app = Starlette(
    routes=[
        Route("/v1/jobs/{job_id}", get_job),
        Route("/v1/jobs", list_jobs),
        Route("/v1/models", list_models),
    ]
)

if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="error", access_log=False
    )
