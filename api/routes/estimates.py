"""When a clip would be there, before it is asked for."""

from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from api.dependencies import Given, known_query
from api.openapi import PROBLEMS
from api.route import Route
from shared.engines.parameters import RenderParameters, RequestedParameters, resolve_parameters
from shared.engines.spec import Quality, Resolution
from shared.jobs.estimates import QueueBoard, Unknown

router = APIRouter(
    prefix="/v1",
    tags=["models"],
    route_class=Route,
    dependencies=[Depends(known_query)],
    responses=PROBLEMS,
)

MAX_SIDE: Final = 1_000_000
ANY_PROMPT: Final = "a slow push in"
"""No time depends on what is written."""

Number = Annotated[int | None, Query(ge=0, le=MAX_SIDE)]
Side = Annotated[int | None, Query(ge=1, le=MAX_SIDE)]


class EstimateView(BaseModel):
    """When a clip submitted now would start and end; `unknown` says why a time is null.

    `render_seconds` is the median of the `like_jobs` that ended here: of the same model and
    quality, and neither half as much work again nor a third less. Five of them are needed.
    """

    object: Literal["estimate"] = "estimate"
    model: str
    width: int
    height: int
    num_frames: int
    num_inference_steps: int
    queued: int
    workers: int
    like_jobs: int
    wait_seconds: float | None
    render_seconds: float | None
    end_seconds: float | None
    start_at: datetime | None
    end_at: datetime | None
    unknown: Unknown | None


@router.get("/models/{model}/estimate")
def estimate(
    model: str,
    ports: Given,
    resolution: Resolution | None = None,
    width: Side = None,
    height: Side = None,
    image_width: Annotated[int, Query(ge=1, le=MAX_SIDE)] = 1024,
    image_height: Annotated[int, Query(ge=1, le=MAX_SIDE)] = 1024,
    num_frames: Number = None,
    fps: Number = None,
    num_inference_steps: Number = None,
    quality: Quality | None = None,
) -> EstimateView:
    """Estimate a clip of these values; the rest is as a create would have it.

    Without width and height the shape is that of the image, whose sides may be given.
    """
    spec = ports.registry.choose(model).spec
    asked = RequestedParameters(
        prompt=ANY_PROMPT,
        resolution=resolution,
        width=width,
        height=height,
        num_frames=num_frames,
        fps=fps,
        num_inference_steps=num_inference_steps,
        quality=quality,
    )
    settled = resolve_parameters(
        spec, asked, image_width=image_width, image_height=image_height, seed=0
    )
    return _view(spec.name, settled, ports.queues.get())


def _view(model: str, settled: RenderParameters, board: QueueBoard) -> EstimateView:
    """Return what the queues of this moment say of such a clip."""
    queue = board.engine(model)
    found = queue.estimate(settled)

    def at(seconds: float | None) -> datetime | None:
        return None if seconds is None else board.at + timedelta(seconds=round(seconds))

    return EstimateView(
        model=model,
        width=settled.width,
        height=settled.height,
        num_frames=settled.num_frames,
        num_inference_steps=settled.num_inference_steps,
        queued=queue.queued,
        workers=queue.workers,
        like_jobs=found.like_jobs,
        wait_seconds=found.start_seconds,
        render_seconds=found.render_seconds,
        end_seconds=found.end_seconds,
        start_at=at(found.start_seconds),
        end_at=at(found.end_seconds),
        unknown=found.unknown,
    )
