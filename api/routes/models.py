"""What this installation can render with, and how long its queues are."""

from typing import Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from api.auth.caller import Authenticated, Caller
from api.dependencies import Given, known_query
from api.openapi import PROBLEMS
from api.ports import Ports
from api.responses.model_schema import parameters_schema
from api.route import Route
from api.submit.allowed import choose_model, may_use
from api.submit.gpu_fit import most_frames
from shared.engines.parameters import buckets
from shared.engines.registry import OfferedEngine
from shared.engines.spec import Licence, Preset, Quality, Recipe, Resolution, Shape
from shared.jobs.pauses import EVERY_ENGINE

router = APIRouter(
    route_class=Route,
    prefix="/v1",
    tags=["models"],
    dependencies=[Depends(known_query)],
    responses=PROBLEMS,
)


class ModelView(BaseModel):
    """A model: `parameters` is the JSON Schema of a create, narrowed to what this one takes.

    `buckets` are the (width, height) pairs it renders at, by resolution; empty where it keeps
    the picture's own shape. `max_frames` has for each the most frames a clip may have on the
    cards at work now, 0 where it fits none. `workers` are those alive now, `card_bytes` the
    memory of the largest card among them, null where that is not known. `lost_cards` would
    serve it too, and fell off the bus of their hosts.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "stillreel"
    title: str
    description: str
    revision: str
    ai_generated: bool
    uses_prompt: bool
    needs_gpu: bool
    vram_bytes: int
    licence: Licence
    qualities: dict[Quality, Recipe]
    workers: int
    card_bytes: int | None
    lost_cards: int
    parameters: dict[str, Any]
    presets: tuple[Preset, ...]
    buckets: dict[Resolution, tuple[tuple[int, int], ...]]
    max_frames: dict[Resolution, tuple[int, ...]]


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelView]


class QueueLine(BaseModel):
    """One model's queue; seconds are None where nothing is known yet, or the wait has no end.

    While it is paused its jobs stay queued, and those that run go on to their end.
    """

    model: str
    queued: int
    running: int
    workers: int
    oldest_seconds: float | None
    render_seconds: float | None
    wait_seconds: float | None
    is_paused: bool


class QueueTotals(BaseModel):
    queued: int
    running: int
    workers: int


class QueueOverview(BaseModel):
    object: Literal["queue"] = "queue"
    data: list[QueueLine]
    totals: QueueTotals
    is_paused: bool


@router.get("/models")
def list_models(ports: Given, caller: Authenticated) -> ModelList:
    """List the models that the caller may use, the one used by default first."""
    return ModelList(data=[_view(offer) for offer in _offers(ports, caller)])


@router.get("/models/{model}")
def get_model(model: str, ports: Given, caller: Authenticated) -> ModelView:
    """Show one model."""
    return _view(choose_model(ports.registry, caller, model))


@router.get("/queue")
def show_queue(ports: Given, caller: Authenticated) -> QueueOverview:
    """Show what waits and what runs, by model, and what an admin has paused."""
    states = [ports.queries.queue(offer.spec.name) for offer in _offers(ports, caller)]
    paused = {pause.engine for pause in ports.pauses.all()}
    is_paused = EVERY_ENGINE in paused
    lines = [
        QueueLine(
            model=state.engine,
            queued=state.queued,
            running=state.running,
            workers=state.workers,
            oldest_seconds=state.oldest_seconds,
            render_seconds=state.render_seconds,
            wait_seconds=None if is_paused or state.engine in paused else state.wait_seconds,
            is_paused=is_paused or state.engine in paused,
        )
        for state in states
    ]
    totals = QueueTotals(
        queued=sum(line.queued for line in lines),
        running=sum(line.running for line in lines),
        workers=ports.registry.live_workers(),
    )
    return QueueOverview(data=lines, totals=totals, is_paused=is_paused)


def _offers(ports: Ports, caller: Caller) -> list[OfferedEngine]:
    return [offer for offer in ports.registry.offers() if may_use(caller, offer.spec.name)]


def _view(offer: OfferedEngine) -> ModelView:
    spec = offer.spec
    shapes = (
        {resolution: buckets(spec, resolution) for resolution in Resolution}
        if spec.shape is Shape.BUCKETS
        else {}
    )
    return ModelView(
        id=spec.name,
        created=int(offer.updated_at.timestamp()),
        title=spec.title,
        description=spec.description,
        revision=spec.revision,
        ai_generated=spec.ai_generated,
        uses_prompt=spec.uses_prompt,
        needs_gpu=spec.needs_gpu,
        vram_bytes=spec.vram_bytes,
        licence=spec.licence,
        qualities=spec.qualities,
        workers=offer.workers,
        card_bytes=offer.card_bytes,
        lost_cards=offer.lost_cards,
        parameters=parameters_schema(spec),
        presets=spec.presets,
        buckets=shapes,
        max_frames={
            resolution: tuple(
                most_frames(spec, width=width, height=height, card_bytes=offer.card_bytes)
                for width, height in sizes
            )
            for resolution, sizes in shapes.items()
        },
    )
