"""The order in which a request passes the middleware."""

from collections.abc import Sequence

from starlette.middleware import Middleware

from api.auth.rate_limit import Rate, Rates
from api.body_limit import largest_body
from api.middleware.authentication import Authentication
from api.middleware.body_timeout import BodyTimeout
from api.middleware.cors import cors
from api.middleware.quick_reads import QuickRead, QuickReads
from api.middleware.request_log import RequestLog
from api.middleware.security_headers import SecurityHeaders
from api.monitoring.metrics import Traffic
from shared.settings import Settings


def layers(
    settings: Settings, traffic: Traffic, *, quick_reads: Sequence[QuickRead]
) -> tuple[Middleware, ...]:
    """Return what every request passes before a route sees it, outermost first."""
    return (
        Middleware(SecurityHeaders),
        *cors(settings.allowed_origins),  # So pages may read the errors of the layers inside.
        Middleware(RequestLog, traffic=traffic, largest_body=largest_body(settings)),
        Middleware(Authentication, rates=Rates(Rate.parse(settings.rate_limit))),
        Middleware(QuickReads, reads=quick_reads),
        Middleware(BodyTimeout),
    )
