"""When a clip would be ready, asked before it is submitted."""

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
"""No estimate depends on the prompt."""

Number = Annotated[int | None, Query(ge=0, le=MAX_SIDE)]
Side = Annotated[int | None, Query(ge=1, le=MAX_SIDE)]


class EstimateView(BaseModel):
    """The expected start and end of a clip submitted now; `unknown` says why a time is null.

    `render_seconds` is the median of the `like_jobs` that ended here: clips of the same model and
    quality, whose work was between two thirds and one and a half times that of this one. Five of
    them are needed.
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
    """Estimate a clip of these values; other values are as in a create.

    Without width and height the shape is that of the image, whose sides may be sent.
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
    """Return the estimate for such a clip by the queues of this moment."""
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
