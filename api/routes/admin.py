"""The whole house at a glance, for admins: workers, failures, storage."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from api.auth.caller import require_admin
from api.dependencies import Given, known_query
from api.openapi import PROBLEMS
from api.route import Route
from shared.jobs.job import public_id

router = APIRouter(
    route_class=Route,
    prefix="/v1/admin",
    tags=["admin"],
    dependencies=[Depends(require_admin), Depends(known_query)],
    responses=PROBLEMS,
)


class WorkerView(BaseModel):
    """A worker as it showed itself last; `running` names the jobs it holds."""

    name: str
    host: str
    device: str
    device_name: str | None
    vram_bytes: int | None
    engines: list[str]
    resident_engine: str | None
    state: str
    is_alive: bool
    model_loads: int
    started_at: datetime
    beat_at: datetime
    running: list[str]


class WorkerList(BaseModel):
    object: Literal["list"] = "list"
    data: list[WorkerView]


class FailureView(BaseModel):
    """A failed job without what was in it; `owner` is its key's name, null for the house."""

    job_id: str
    owner: str | None
    model: str
    code: str
    message: str | None
    attempt: int
    worker: str | None
    finished_at: datetime


class FailureList(BaseModel):
    object: Literal["list"] = "list"
    data: list[FailureView]


class StoredView(BaseModel):
    """One owner's clips and what came with them; the pictures they were made of do not count."""

    owner: str | None
    jobs: int
    files: int
    bytes: int
    first_expires_at: datetime | None


class StorageView(BaseModel):
    object: Literal["storage"] = "storage"
    bytes: int
    data: list[StoredView]


@router.get("/workers")
def list_workers(ports: Given) -> WorkerList:
    """List the workers, the one heard of last first."""
    found = ports.admin_queries.workers()
    return WorkerList(
        data=[
            WorkerView.model_validate(
                {**worker.__dict__, "running": [public_id(job) for job in worker.running]}
            )
            for worker in found
        ]
    )


@router.get("/failures")
def list_failures(ports: Given, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> FailureList:
    """List the jobs that failed last, whoever owns them."""
    return FailureList(
        data=[
            FailureView(
                job_id=public_id(failure.job_id),
                owner=failure.owner,
                model=failure.engine,
                code=failure.error_code,
                message=failure.error_message,
                attempt=failure.attempt,
                worker=failure.worker,
                finished_at=failure.finished_at,
            )
            for failure in ports.admin_queries.failures(limit=limit)
        ]
    )


@router.get("/storage")
def show_storage(ports: Given) -> StorageView:
    """Show what finished clips take, by owner, the most first."""
    data = [StoredView.model_validate(stored.__dict__) for stored in ports.admin_queries.storage()]
    return StorageView(bytes=sum(stored.bytes for stored in data), data=data)
