"""The peer of `bench/queue.py`: plain Celery with its defaults, and one durable row a job."""

import os

import psycopg
from celery import Celery, signals

TABLE = (
    "CREATE TABLE plain (id serial PRIMARY KEY, created_at timestamptz, started_at timestamptz)"
)
INSERT = "INSERT INTO plain (created_at) VALUES (clock_timestamp()) RETURNING id"
START = "UPDATE plain SET started_at = clock_timestamp() WHERE id = %s"

app = Celery("plain", broker=os.environ.get("PLAIN_REDIS_URL"))
app.conf.update(task_ignore_result=True, worker_concurrency=1, worker_hijack_root_logger=False)

_connections: list[psycopg.Connection] = []


@signals.worker_process_init.connect
def _connect(**_: object) -> None:
    _connections.append(psycopg.connect(os.environ["PLAIN_DATABASE_URL"], autocommit=True))


@app.task
def start(job_id: int) -> None:
    _connections[0].execute(START, [job_id])
