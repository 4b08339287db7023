"""The gateway as an ASGI app."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from api import openapi, problems
from api.compat.openai import routes as openai_videos
from api.compat.replicate import files as replicate_files
from api.compat.replicate import routes as replicate
from api.limits import SHIPPED, GatewayLimits
from api.middleware.layers import layers
from api.middleware.quick_reads import QuickRead
from api.monitoring.metrics import Telemetry
from api.ports import open_ports
from api.routes import (
    admin,
    api_keys,
    batches,
    docs,
    estimates,
    events,
    health,
    jobs,
    legacy,
    models,
    page,
    session,
    uploads,
    usage,
    webhook_deliveries,
    webhook_endpoints,
)
from shared.settings import Settings

VERSION: Final = "0.2.0"

DESCRIPTION: Final = (
    "One image and one sentence in, one short MP4 out. Every error is RFC 9457 problem+json"
    " with a stable `code`."
)

NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own telemetry would look for its providers in the environment at each request."""

QUICK_READS: Final = (
    QuickRead("/v1/jobs/{job_id}", jobs.poll),
    QuickRead("/v1/jobs", jobs.list_newest, jobs.NEWEST),
    QuickRead("/v1/models", models.list_known),
)


def create_app(settings: Settings, limits: GatewayLimits = SHIPPED) -> FastAPI:
    """Build the gateway; its ports open when the server starts and close when it stops."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with open_ports(settings, limits) as ports:
            app.state.ports = ports
            yield

    telemetry = Telemetry()
    app = FastAPI(
        title="Stillreel",
        version=VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own page loads its parts from a CDN.
        redoc_url=None,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
        middleware=layers(settings, telemetry.traffic, quick_reads=QUICK_READS),
    )
    app.state.telemetry = telemetry
    problems.install(app)
    for routes in (
        jobs,
        batches,
        events,
        models,
        estimates,
        uploads,
        openai_videos,
        replicate,
        replicate_files,
        usage,
        webhook_endpoints,
        webhook_deliveries,
        api_keys,
        session,
        admin,
        legacy,
        health,
        docs,
        page,
    ):
        app.include_router(routes.router)
    app.mount("/docs/ui", docs.swagger_ui)
    app.mount("/web", page.parts)
    openapi.describe(app)
    return app
