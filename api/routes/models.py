"""The models of this installation, and how long their queues are."""

from datetime import datetime
from functools import partial
from typing import Any, Final, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel
from starlette.types import Scope

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
from shared.engines.spec import Hosted, Licence, Preset, Quality, Recipe, Resolution, Shape
from shared.engines.weights import WeightsView
from shared.jobs.pauses import EVERY_ENGINE

router = APIRouter(
    route_class=Route,
    prefix="/v1",
    tags=["models"],
    dependencies=[Depends(known_query)],
    responses=PROBLEMS,
)


MOST_VIEWS: Final = 100
_views: dict[tuple[str, datetime, int, int | None, int], "ModelView"] = {}


class ModelView(BaseModel):
    """A model: `parameters` is the JSON Schema of a create, narrowed to what this model takes.

    `buckets` are the (width, height) pairs that it renders, by resolution; empty if it keeps the
    shape of the image. `max_frames` has for each pair the most frames that a clip may have on the
    cards at work now, 0 if no clip fits. `workers` counts those alive now. `card_bytes` is the
    memory of the largest card among them, null if it is not known. `lost_cards` counts cards that
    would serve it too, but fell off the bus of their hosts. `weights` is the state at the worker
    that has most of them: `ready`, `downloading` with bytes, or `missing` with what to do; null if
    the model has none, or no worker reports it. `prompt_languages` are the languages that its text
    encoder learned; `mul` stands for many more. `hosted` names the provider that gets the image
    and the prompt, and its price; null if they stay here.
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
    prompt_languages: tuple[str, ...]
    needs_gpu: bool
    vram_bytes: int
    hosted: Hosted | None
    licence: Licence
    qualities: dict[Quality, Recipe]
    workers: int
    card_bytes: int | None
    lost_cards: int
    weights: WeightsView | None
    parameters: dict[str, Any]
    presets: tuple[Preset, ...]
    buckets: dict[Resolution, tuple[tuple[int, int], ...]]
    max_frames: dict[Resolution, tuple[int, ...]]


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelView]


class Estimates(BaseModel):
    """How often the estimate at a job's creation was right, among the jobs that ended last.

    An estimate is right if the end was off by no more than a quarter of the whole time, or 10
    seconds.
    """

    judged: int
    right: int


class QueueLine(BaseModel):
    """One model's queue; seconds are None if nothing is known yet, or the wait has no end.

    While it is paused its jobs stay queued, and running jobs continue to their end.
    """

    model: str
    queued: int
    running: int
    workers: int
    oldest_seconds: float | None
    render_seconds: float | None
    wait_seconds: float | None
    is_paused: bool
    estimates: Estimates


class QueueTotals(BaseModel):
    queued: int
    running: int
    workers: int


class QueueOverview(BaseModel):
    object: Literal["queue"] = "queue"
    data: list[QueueLine]
    totals: QueueTotals
    is_paused: bool


@router.get("/models", response_model=ModelList)
def list_models(ports: Given, caller: Authenticated) -> Response:
    """List the models that the caller may use, the default first."""
    # FastAPI would check every value again.
    return Response(_list(ports, caller), media_type="application/json")


async def list_known(scope: Scope, _last: str, _query: str) -> Response:
    """Answer like `list_models`, with a body written once while the offers are unchanged."""
    ports: Ports = scope["app"].state.ports
    caller: Caller = scope["state"]["caller"]
    write = partial(_list, ports, caller)
    body = await ports.known_offers.get(caller.models, write, caller.owner_id)
    return Response(body, media_type="application/json")


def _list(ports: Ports, caller: Caller) -> bytes:
    found = ModelList(data=[_known_view(offer) for offer in _offers(ports, caller)])
    return found.model_dump_json().encode()


@router.get("/models/{model}")
def get_model(model: str, ports: Given, caller: Authenticated) -> ModelView:
    """Show one model."""
    return _known_view(choose_model(ports.registry, caller, model))


@router.get("/queue")
def show_queue(ports: Given, caller: Authenticated) -> QueueOverview:
    """Show by model what waits and what runs, and what an admin has paused."""
    board = ports.queues.get(at_most=0)
    states = [board.engine(offer.spec.name) for offer in _offers(ports, caller)]
    is_paused = any(pause.engine == EVERY_ENGINE for pause in ports.pauses.all())
    lines = [
        QueueLine(
            model=state.engine,
            queued=state.queued,
            running=state.running,
            workers=state.workers,
            oldest_seconds=state.oldest_seconds,
            render_seconds=state.render_seconds,
            wait_seconds=None if not state.rendered else state.start_seconds(state.queued),
            is_paused=state.is_paused,
            estimates=Estimates(judged=state.judged, right=state.right),
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


def _known_view(offer: OfferedEngine) -> ModelView:
    """Return the view that was made of this offer before, because its schemas take time."""
    key = (offer.spec.name, offer.updated_at, offer.workers, offer.card_bytes, offer.lost_cards)
    view = _views.get(key)
    if view is None:
        if len(_views) >= MOST_VIEWS:
            _views.clear()
        view = _views[key] = _view(offer)
    # A download changes with each beat of its worker.
    return view.model_copy(update={"weights": offer.weights})


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
        prompt_languages=spec.prompt_languages,
        needs_gpu=spec.needs_gpu,
        vram_bytes=spec.vram_bytes,
        hosted=spec.hosted,
        licence=spec.licence,
        qualities=spec.qualities,
        workers=offer.workers,
        card_bytes=offer.card_bytes,
        lost_cards=offer.lost_cards,
        weights=offer.weights,
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
