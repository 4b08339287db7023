"""The peer of `bench/gateway.py`: the least that answers the same request.

It looks the key up in memory, reads the same row by psycopg on a thread, and returns JSON of
the same size.
"""

import json
import os
import threading

import psycopg
import uvicorn
from psycopg.rows import dict_row
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_local = threading.local()
_KEYS = {os.environ.get("BARE_KEY", ""): "owner"}
_BODY = os.environ.get("BARE_BODY", "{}")


def _connection() -> psycopg.Connection[dict[str, object]]:
    if not hasattr(_local, "connection"):
        _local.connection = psycopg.connect(
            os.environ["BARE_DATABASE_URL"], autocommit=True, row_factory=dict_row
        )
    connection: psycopg.Connection[dict[str, object]] = _local.connection
    return connection


def get_job(request: Request) -> Response:
    """Answer with JSON of the size that the service's own answer has."""
    if request.headers.get("authorization", "").removeprefix("Bearer ") not in _KEYS:
        return Response(status_code=401)
    job_id = request.path_params["job_id"].removeprefix("job_")
    row = _connection().execute("SELECT * FROM jobs WHERE id = %s", [job_id]).fetchone()
    if row is None:
        return Response(status_code=404)
    body = json.loads(_BODY) | {"status": row["status"], "version": row["version"]}
    return Response(json.dumps(body), media_type="application/json")


app = Starlette(routes=[Route("/v1/jobs/{job_id}", get_job)])

if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="error", access_log=False
    )
