"""The whole installation for admins: workers, failures, storage."""

from datetime import datetime
from typing import Annotated, Final, Literal

import structlog
from fastapi import APIRouter, Body, Depends, Query
from pydantic import BaseModel, Field

from api.auth.caller import require_admin
from api.dependencies import Given, known_query
from api.monitoring.disk_space import free_bytes
from api.openapi import PROBLEMS
from api.ports import Ports
from api.route import Route
from api.submit.body import refuse_nul
from api.submit.json_body import KnownNames
from shared.jobs.create import MAX_MODEL_NAME
from shared.jobs.job import Variant, public_id
from shared.jobs.pauses import EVERY_ENGINE

router = APIRouter(
    route_class=Route,
    prefix="/v1/admin",
    tags=["admin"],
    dependencies=[Depends(require_admin), Depends(known_query)],
    responses=PROBLEMS,
)

MAX_REASON: Final = 500

_log = structlog.get_logger(__name__)


class WorkerView(BaseModel):
    """A worker by its last beat; `running` names the jobs that it holds."""

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
    """A failed job without its content; `owner` is its key's name, null for the admins' owner."""

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
    """One owner's clips and their other files; the inputs do not count."""

    owner: str | None
    jobs: int
    files: int
    bytes: int
    first_expires_at: datetime | None


class VariantStoredView(BaseModel):
    variant: Variant
    files: int
    bytes: int


class StorageView(BaseModel):
    """The size of finished clips, computed from the newest jobs.

    `is_partial` says that there are more jobs. `free_bytes` is the free space on the disk of this
    machine's files; null if the files are elsewhere.
    """

    object: Literal["storage"] = "storage"
    bytes: int
    free_bytes: int | None
    is_partial: bool
    by_variant: list[VariantStoredView]
    data: list[StoredView]


class PauseRequest(KnownNames):
    """What to pause: one model, or the whole queue if none is named."""

    model: Annotated[str, Field(min_length=1, max_length=MAX_MODEL_NAME)] | None = None
    reason: Annotated[str, Field(max_length=MAX_REASON)] | None = None


class ResumeRequest(KnownNames):
    """The pause to end: that of one model, or that of the whole queue if none is named."""

    model: Annotated[str, Field(min_length=1, max_length=MAX_MODEL_NAME)] | None = None


class PauseView(BaseModel):
    """A pause; `model` is null if the whole queue is paused."""

    model: str | None
    reason: str | None
    since: datetime


class PauseList(BaseModel):
    object: Literal["list"] = "list"
    data: list[PauseView]


@router.get("/workers")
def list_workers(ports: Given) -> WorkerList:
    """List the workers, the one with the newest beat first."""
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
    """List the latest failed jobs of all owners."""
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
    """Show the size of finished clips, by owner, the largest first."""
    found = ports.admin_queries.storage()
    data = [StoredView.model_validate(stored.__dict__) for stored in found.owners]
    return StorageView(
        bytes=sum(stored.bytes for stored in data),
        free_bytes=free_bytes(ports.settings.data_dir),
        is_partial=found.is_partial,
        by_variant=[VariantStoredView.model_validate(each.__dict__) for each in found.variants],
        data=data,
    )


@router.get("/pauses")
def list_pauses(ports: Given) -> PauseList:
    """List what is paused."""
    return _pauses(ports)


@router.post("/pause")
def pause(ports: Given, asked: Annotated[PauseRequest | None, Body()] = None) -> PauseList:
    """Start no more jobs of one model, or of any.

    Running jobs continue, and waiting jobs stay queued.
    """
    asked = asked or PauseRequest()
    refuse_nul(asked.reason, "reason")
    engine = _engine(ports, asked.model)
    ports.pauses.pause(engine, reason=asked.reason)
    _log.info("queue_paused", model=asked.model)
    return _pauses(ports)


@router.post("/resume")
def resume(ports: Given, asked: Annotated[ResumeRequest | None, Body()] = None) -> PauseList:
    """Start jobs again; a model stays paused as long as the whole queue is paused."""
    asked = asked or ResumeRequest()
    refuse_nul(asked.model, "model")
    ports.pauses.resume(asked.model or EVERY_ENGINE)
    _log.info("queue_resumed", model=asked.model)
    for offer in ports.registry.offers():
        ports.bell.ring(offer.spec.name)
    return _pauses(ports)


def _engine(ports: Ports, model: str | None) -> str:
    """Return the engine to pause.

    Raises:
        UnknownModel: a misspelled name would pause nothing.
    """
    if model is None:
        return EVERY_ENGINE
    refuse_nul(model, "model")
    return ports.registry.choose(model).spec.name


def _pauses(ports: Ports) -> PauseList:
    return PauseList(
        data=[
            PauseView(model=each.engine or None, reason=each.reason, since=each.since)
            for each in ports.pauses.all()
        ]
    )
