"""A draft is requested, accepted if the model has one, and shown as a draft."""

from typing import Any

import pytest

from shared.engines.spec import Quality, Recipe
from tests.support.gateway import MODEL, MOVES, FakeWorker, Gateway

SKETCHER = MODEL.model_copy(
    update={
        "name": "sketcher",
        "prompt_required": False,
        "qualities": {
            Quality.DRAFT: Recipe(num_inference_steps=20, sampler="quick", approximate=True),
            Quality.HIGH: Recipe(num_inference_steps=80, sampler="exact"),
        },
    }
)
STILL = MOVES.model_copy(update={"name": "still", "uses_steps": False, "uses_guidance": False})
PLAIN = MODEL.model_copy(update={"name": "plain", "prompt_required": False})


@pytest.fixture(autouse=True)
def served(fake_worker: FakeWorker) -> None:
    fake_worker.offer(SKETCHER, STILL, PLAIN)


@pytest.mark.parametrize(
    ("sent", "quality", "steps", "approximate"),
    [
        ({}, "standard", 50, False),
        ({"quality": "standard"}, "standard", 50, False),
        ({"quality": "high"}, "high", 80, False),
        ({"quality": "draft"}, "draft", 20, True),
        ({"quality": "draft", "num_inference_steps": 12}, "draft", 12, True),
        ({"quality": "high", "steps": 10}, "high", 10, False),
    ],
    ids=str,
)
def test_a_quality_stands_for_steps_that_a_named_number_overrides(
    gateway: Gateway, sent: dict[str, Any], quality: str, steps: int, approximate: bool
) -> None:
    job = gateway.created(model="sketcher", **sent)

    shown = gateway.get(f"/v1/jobs/{job['id']}").json()
    assert (shown["input"]["quality"], shown["input"]["num_inference_steps"]) == (quality, steps)
    assert shown["approximate"] is approximate
    assert shown["warnings"] == []


@pytest.mark.parametrize("quality", ["draft", "high"])
def test_a_model_without_that_quality_refuses_it(gateway: Gateway, quality: str) -> None:
    answer = gateway.create(model="plain", quality=quality)

    assert (answer.status_code, answer.json()["param"]) == (422, "quality")
    assert answer.json()["detail"] == f"plain has no quality {quality}; it takes standard"


def test_an_engine_without_steps_ignores_a_quality_and_says_so(gateway: Gateway) -> None:
    job = gateway.created(model="still", quality="draft")

    assert (job["input"]["quality"], job["approximate"]) == ("standard", False)
    assert job["warnings"] == ["quality was ignored: still does not use it"]


def test_a_quality_nobody_knows_is_refused_with_those_there_are(gateway: Gateway) -> None:
    answer = gateway.create(model="sketcher", quality="best")

    assert (answer.status_code, answer.json()["param"]) == (422, "quality")
    assert all(name in answer.json()["detail"] for name in Quality)


def test_a_model_shows_its_qualities(gateway: Gateway) -> None:
    shown = gateway.get("/v1/models/sketcher").json()
    field = shown["parameters"]["properties"]["quality"]

    assert (field["enum"], field["default"]) == (["draft", "standard", "high"], "standard")
    assert shown["qualities"]["draft"] == {
        "num_inference_steps": 20,
        "sampler": "quick",
        "approximate": True,
    }
    plain = gateway.get("/v1/models/plain").json()
    assert plain["parameters"]["properties"]["quality"]["enum"] == ["standard"]


def test_a_job_of_before_there_were_qualities_reads_as_standard(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    job = gateway.created(model="sketcher", quality="draft")
    with fake_worker.db.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET parameters = parameters - 'quality' - 'approximate'"
        )

    shown = gateway.get(f"/v1/jobs/{job['id']}").json()

    assert (shown["input"]["quality"], shown["approximate"]) == ("standard", False)
