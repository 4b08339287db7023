"""Replicate over our jobs: predictions by model and by version, models, the webhooks' secret."""

import re
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Final, Self

import structlog
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BaseModel

from api.auth.caller import Authenticated
from api.body_limit import takes_image
from api.compat.create import submit_foreign
from api.compat.replicate.create import IMAGES, engine_of, read_prediction
from api.compat.replicate.models import (
    ModelPage,
    ModelView,
    VersionPage,
    VersionView,
    model_view,
    version_view,
)
from api.dependencies import MAX_WAIT_SECONDS, BaseUrl, Given, Paging, known_query
from api.openapi import PROBLEMS
from api.ports import Ports
from api.responses.job import view
from api.route import Route
from api.routes.jobs import has_ended
from api.submit.idempotency import Idempotency
from api.submit.queue_job import Submitted
from shared.errors import InvalidRequest, JobTerminal, NotFound
from shared.jobs.job import JOB_ID, Job, parse_id
from shared.jobs.listing import WRONG_CURSOR, Filter
from shared.jobs.prediction import PREFIX, SOURCE, STATUSES, Prediction, prediction
from shared.lifecycle import Status

router = APIRouter(route_class=Route, prefix=PREFIX, tags=["replicate"], responses=PROBLEMS)

PAGE: Final = 100

SHARE: Final = 0.95
"""The part of a client's wait that is used: the client gives up half a second after its own limit,
which includes the submit."""

_WAIT: Final = re.compile(r"wait(?:=\"?([0-9]{1,20}(?:\.[0-9]{1,9})?)\"?)?", re.IGNORECASE)

_log = structlog.get_logger(__name__)


class PredictionPage(BaseModel):
    """One page of a listing; `next` is the address of the next page."""

    previous: None = None
    next: str | None
    results: list[Prediction]


class Secret(BaseModel):
    key: str


_INPUT: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        **{name: {"type": "string", "format": "uri"} for name in IMAGES},
        "prompt": {"type": "string", "maxLength": 2000},
    },
}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["input"],
                    "properties": {
                        "version": {"type": "string", "maxLength": 400},
                        "input": _INPUT,
                        "webhook": {"type": "string", "format": "uri"},
                        "webhook_events_filter": {
                            "type": "array",
                            "maxItems": 10,
                            "items": {"enum": ["start", "output", "logs", "completed"]},
                        },
                    },
                }
            }
        },
    }
}

Prefer = Annotated[
    str | None, Header(description="`wait` waits up to 60 seconds, `wait=n` up to n.")
]


@router.post("/predictions", status_code=201, response_model=Prediction, openapi_extra=_BODY)
@takes_image
async def create_prediction(
    request: Request,
    ports: Given,
    caller: Authenticated,
    base_url: BaseUrl,
    key: Idempotency,
    prefer: Prefer = None,
) -> Response:
    """Queue a clip by the version of a model."""
    wait = _Wait.begin(prefer)
    submitted = await submit_foreign(
        request, ports, caller, read_prediction, key=key, source=SOURCE
    )
    return await wait.answer(ports, submitted, base_url)


@router.post(
    "/models/{owner}/{model}/predictions",
    status_code=201,
    response_model=Prediction,
    openapi_extra=_BODY,
)
@takes_image
async def create_prediction_of_model(
    request: Request,
    owner: str,
    model: str,
    ports: Given,
    caller: Authenticated,
    base_url: BaseUrl,
    key: Idempotency,
    prefer: Prefer = None,
) -> Response:
    """Queue a clip by the name of a model."""
    wait = _Wait.begin(prefer)
    read = partial(read_prediction, model=engine_of(owner, model))
    submitted = await submit_foreign(request, ports, caller, read, key=key, source=SOURCE)
    return await wait.answer(ports, submitted, base_url)


@router.get("/predictions", dependencies=[Depends(known_query)])
def list_predictions(
    ports: Given,
    caller: Authenticated,
    base_url: BaseUrl,
    after: Annotated[str | None, Query(alias="cursor", max_length=100)] = None,
) -> PredictionPage:
    """List jobs as predictions, the newest first, also jobs of other protocols."""
    try:
        cut = Paging(after or None, PAGE, "desc").cut(JOB_ID, wrong=WRONG_CURSOR)
        page = ports.queries.page(owner_id=caller.owner_id, narrow=Filter(), cut=cut)
    except InvalidRequest as error:
        raise InvalidRequest(
            "cursor is not one that this listing gave; use next of a page as it is", param="cursor"
        ) from error
    last = page.items[-1].public_id if page.has_more else None
    return PredictionPage(
        next=last and f"{base_url}{PREFIX}/predictions?cursor={last}",
        results=[_shown(ports, job, base_url) for job in page.items],
    )


@router.get("/predictions/{prediction_id}")
def get_prediction(
    prediction_id: str, ports: Given, caller: Authenticated, base_url: BaseUrl
) -> Prediction:
    """Show a job as a prediction."""
    job = ports.queries.get(parse_id(prediction_id), owner_id=caller.owner_id)
    return _shown(ports, job, base_url)


@router.post("/predictions/{prediction_id}/cancel")
def cancel_prediction(
    prediction_id: str, ports: Given, caller: Authenticated, base_url: BaseUrl
) -> Prediction:
    """End a live job for good; one that has ended is shown as it is."""
    job_id = parse_id(prediction_id)
    try:
        job = ports.jobs.cancel(job_id, owner_id=caller.owner_id)
    except JobTerminal:
        job = ports.queries.get(job_id, owner_id=caller.owner_id)
    else:
        _log.info("job_canceled", job=job.public_id, attempt=job.attempt)
    return _shown(ports, job, base_url)


@router.get("/models")
def list_models(ports: Given, base_url: BaseUrl) -> ModelPage:
    """List the models, the one used by default first."""
    offers = ports.registry.offers()
    return ModelPage(results=[model_view(offer, base_url=base_url) for offer in offers])


@router.get("/models/{owner}/{model}")
def get_model(owner: str, model: str, ports: Given, base_url: BaseUrl) -> ModelView:
    """Show a model with its one version."""
    return model_view(ports.registry.choose(engine_of(owner, model)), base_url=base_url)


@router.get("/models/{owner}/{model}/versions")
def list_versions(owner: str, model: str, ports: Given) -> VersionPage:
    """List the versions of a model: there is one."""
    return VersionPage(results=[version_view(ports.registry.choose(engine_of(owner, model)))])


@router.get("/models/{owner}/{model}/versions/{version}")
def get_version(owner: str, model: str, version: str, ports: Given) -> VersionView:
    """Show a version of a model."""
    found = version_view(ports.registry.choose(engine_of(owner, model)))
    if found.id != version:
        raise NotFound(f"no such version of {owner}/{model}; it has {found.id}")
    return found


@router.get("/webhooks/default/secret")
def show_secret(ports: Given, caller: Authenticated, response: Response) -> Secret:
    """Show the secret that signs the webhooks of predictions."""
    response.headers["Cache-Control"] = "no-store"
    return Secret(key=ports.endpoints.default(caller.owner_id).secret)


@dataclass(frozen=True)
class _Wait:
    """How long a client waits for the answer to its create, and since when."""

    seconds: float
    began_at: float

    @classmethod
    def begin(cls, prefer: str | None) -> Self:
        """Read `Prefer`: `wait` alone means the longest wait, and no header means no wait."""
        waits = [_WAIT.fullmatch(part.strip()) for part in (prefer or "").split(",")]
        asked = next((match[1] or MAX_WAIT_SECONDS for match in waits if match), 0)
        return cls(SHARE * min(float(asked), MAX_WAIT_SECONDS), time.monotonic())

    async def answer(self, ports: Ports, submitted: Submitted, base_url: str) -> Response:
        """Answer with a new prediction, or with the ended one if the end comes in time."""
        job = submitted.job
        left = timedelta(seconds=self.began_at + self.seconds - time.monotonic())
        if left > timedelta(0):
            job = await ports.job_watcher.until(job, has_ended, within=left)
        shown = _shown(ports, job, base_url)
        if not job.is_terminal:
            # The clients take every other word for the end of the prediction.
            shown = shown.model_copy(update={"status": STATUSES[Status.QUEUED]})
        headers = {"Idempotency-Replayed": "true"} if submitted.is_replay else {}
        return Response(shown.model_dump_json(), 201, headers, media_type="application/json")


def _shown(ports: Ports, job: Job, base_url: str) -> Prediction:
    return prediction(job, view(ports, job, base_url), base_url=base_url)
