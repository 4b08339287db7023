"""Warnings about a client's texts, which it gets before the clip is there."""

from datetime import UTC, datetime

import pytest

from api.submit.warnings import warnings_for
from shared.engines.parameters import RequestedParameters, resolve_parameters
from shared.engines.registry import OfferedEngine
from shared.engines.spec import EngineSpec
from worker.engines.animatediff.engine import SPEC as GUIDED
from worker.engines.camera.engine import SPEC as WITHOUT_TEXT


def warned(spec: EngineSpec, **fields: object) -> tuple[str, ...]:
    asked = RequestedParameters.model_validate({"prompt": "the steam rises", **fields})
    settled = resolve_parameters(spec, asked, image_width=512, image_height=512, seed=1)
    return warnings_for(
        OfferedEngine(spec=spec, workers=1, updated_at=datetime.now(UTC)), asked, settled
    )


@pytest.mark.parametrize("guidance_scale", [0, 0.5, 1])
def test_a_negative_prompt_without_guidance_is_a_warning(guidance_scale: float) -> None:
    (warning,) = warned(GUIDED, negative_prompt="blurry", guidance_scale=guidance_scale)
    assert warning.startswith(f"negative_prompt was ignored: guidance_scale {guidance_scale:g} ")


@pytest.mark.parametrize(
    "fields",
    [
        {"negative_prompt": "blurry", "guidance_scale": 1.1},
        {"negative_prompt": "blurry"},
        {"guidance_scale": 1},
    ],
)
def test_a_negative_prompt_that_is_used_or_not_given_is_none(fields: dict[str, object]) -> None:
    assert warned(GUIDED, **fields) == ()


def test_a_model_that_takes_none_says_that_alone() -> None:
    assert warned(WITHOUT_TEXT, negative_prompt="blurry") == (
        f"negative_prompt was ignored: {WITHOUT_TEXT.name} does not use it",
    )
