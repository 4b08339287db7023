"""What this installation can render with, and how long its queues are."""

from typing import Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from api.dependencies import Given, known_query
from api.openapi import PROBLEMS
from api.responses.model_schema import parameters_schema
from api.route import Route
from api.submit.gpu_fit import most_frames
from shared.engines.parameters import buckets
from shared.engines.registry import OfferedEngine
from shared.engines.spec import Licence, Preset, Quality, Recipe, Resolution, Shape

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
    """One model's queue; seconds are None where nothing is known yet."""

    model: str
    queued: int
    running: int
    workers: int
    oldest_seconds: float | None
    render_seconds: float | None
    wait_seconds: float | None


class QueueTotals(BaseModel):
    queued: int
    running: int
    workers: int


class QueueOverview(BaseModel):
    object: Literal["queue"] = "queue"
    data: list[QueueLine]
    totals: QueueTotals


@router.get("/models")
def list_models(ports: Given) -> ModelList:
    """List the models, the one used by default first."""
    return ModelList(data=[_view(offer) for offer in ports.registry.offers()])


@router.get("/models/{model}")
def get_model(model: str, ports: Given) -> ModelView:
    """Show one model."""
    return _view(ports.registry.choose(model))


@router.get("/queue")
def show_queue(ports: Given) -> QueueOverview:
    """Show what waits and what runs, by model."""
    states = [ports.queries.queue(offer.spec.name) for offer in ports.registry.offers()]
    lines = [
        QueueLine(
            model=state.engine,
            queued=state.queued,
            running=state.running,
            workers=state.workers,
            oldest_seconds=state.oldest_seconds,
            render_seconds=state.render_seconds,
            wait_seconds=state.wait_seconds,
        )
        for state in states
    ]
    totals = QueueTotals(
        queued=sum(line.queued for line in lines),
        running=sum(line.running for line in lines),
        workers=ports.registry.live_workers(),
    )
    return QueueOverview(data=lines, totals=totals)


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
