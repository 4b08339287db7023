"""Whether the gateway is alive, whether it can accept a job, and its metrics."""

from dataclasses import asdict

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api.dependencies import Given
from api.monitoring.readiness import NEEDED
from api.route import Route
from shared.errors import DatabaseUnavailable

router = APIRouter(route_class=Route, tags=["health"])

_log = structlog.get_logger(__name__)


@router.head("/livez", include_in_schema=False)  # Monitors ask so unless told otherwise.
@router.get("/livez")
async def livez() -> dict[str, str]:
    """Answer as long as the process runs; it checks nothing."""
    return {"status": "alive"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={503: {"description": "A part that jobs need is away."}})
async def readyz(ports: Given) -> JSONResponse:
    """Say whether a job would be accepted now, and the state of each part.

    Without Redis or without a living worker the gateway is `degraded` but ready: jobs are
    accepted, and run a little later or when a worker is there. `paused` names the models whose
    jobs an admin paused, `*` for all; their jobs are accepted too.
    """
    parts = await ports.readiness.parts()
    is_ready = all(parts[name].ok for name in NEEDED)
    is_whole = all(health.ok for health in parts.values())
    status = "ready" if is_whole else "degraded" if is_ready else "unavailable"
    shown = {name: asdict(health) for name, health in parts.items()}
    body = {"status": status, "parts": shown, "paused": await ports.readiness.paused()}
    headers = {"Cache-Control": "no-store"} | ({} if is_ready else {"Retry-After": "2"})
    return JSONResponse(body, 200 if is_ready else 503, headers)


@router.get("/metrics", response_class=Response)
async def metrics(request: Request, ports: Given) -> Response:
    """Prometheus metrics; while Postgres is away, only the gateway's own."""
    telemetry = request.app.state.telemetry
    try:
        telemetry.collector.census = await ports.census.get()
    except (DatabaseUnavailable, TimeoutError) as error:
        _log.warning("census_failed", reason=type(error).__name__)
        telemetry.collector.census = None
    telemetry.collector.waiters = len(ports.job_watcher)
    return Response(generate_latest(telemetry.registry), media_type=CONTENT_TYPE_LATEST)
