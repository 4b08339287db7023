"""The middleware, in the order in which a request passes it."""

import pytest

from api.app import create_app
from api.middleware.layers import layers
from api.monitoring.metrics import Telemetry
from shared.settings import Settings


@pytest.mark.parametrize(
    ("origins", "between"), [("", []), ("https://a.example", ["CORSMiddleware"])]
)
def test_the_layers_are_named_from_the_outermost_to_the_innermost(
    origins: str, between: list[str]
) -> None:
    settings = Settings(_env_file=None, cors_origins=origins)
    names = [
        str(getattr(layer.cls, "__name__", ""))
        for layer in layers(settings, Telemetry().traffic, quick_reads=())
    ]
    inner = ["RequestLog", "Authentication", "QuickReads", "BodyTimeout"]
    assert names == ["SecurityHeaders", *between, *inner]


def test_a_request_passes_them_in_that_order() -> None:
    app = create_app(Settings(_env_file=None))
    passed, layer = [], app.build_middleware_stack()
    while (inner := getattr(layer, "_app", getattr(layer, "app", None))) is not None:
        passed.append(type(layer).__name__)
        layer = inner
    ours = ["SecurityHeaders", "RequestLog", "Authentication", "QuickReads", "BodyTimeout"]
    assert [name for name in passed if name in ours] == ours
