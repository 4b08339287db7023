"""What operators and pages see: models, queues, readiness, metrics, the API's description."""

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import make_url

from api.app import create_app
from shared.errors import OutOfMemory
from shared.settings import Settings
from tests.support.gateway import (
    MODEL,
    MOVES,
    PATIENT,
    FakeWorker,
    Gateway,
    running_gateway,
    without_database,
)
from tests.support.routes import described, routes
from tests.support.stack import Stack


def test_models_tell_their_limits_as_json_schema(gateway: Gateway) -> None:
    listed = gateway.get("/v1/models").json()
    assert [model["id"] for model in listed["data"]] == ["moves", "model"]
    model = gateway.get("/v1/models/model").json()
    assert model == listed["data"][1]
    assert (model["object"], model["ai_generated"], model["workers"]) == ("model", True, 1)
    assert model["licence"]["name"] == "Apache-2.0"
    assert [768, 512] in model["buckets"]["512p"]
    properties = model["parameters"]["properties"]
    assert properties["num_frames"] == {
        "type": "integer",
        "minimum": 8,
        "maximum": 32,
        "default": 16,
    }
    assert properties["width"]["multipleOf"] == 64
    assert properties["negative_prompt"]["x-ignored"] is True
    assert model["parameters"]["required"] == ["prompt"]
    assert listed["data"][0]["presets"][0]["name"] == "draft"
    missing = gateway.get("/v1/models/sora")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_model")


def test_the_queue_is_told_by_model_and_in_all(gateway: Gateway, fake_worker: FakeWorker) -> None:
    for _ in range(3):
        gateway.created()
    fake_worker.complete(fake_worker.claim())
    fake_worker.claim()
    queue = gateway.get("/v1/queue").json()
    moves, model = queue["data"]
    assert (moves["model"], moves["queued"], moves["running"]) == ("moves", 1, 1)
    assert moves["oldest_seconds"] > 0
    assert moves["wait_seconds"] > 0
    assert (model["queued"], model["oldest_seconds"]) == (0, None)
    assert queue["totals"] == {"queued": 1, "running": 1, "workers": 1}


def test_why_a_part_is_unwell_is_logged_once_and_told_to_no_client(
    module_stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    asks_anew = replace(PATIENT, part_fresh=timedelta())  # Each request asks the parts again.
    url = make_url(module_stack.settings().database_url.get_secret_value())
    wrong = url.set(password="hunter2").render_as_string(hide_password=False)
    with running_gateway(module_stack.settings(database_url=wrong), asks_anew) as gateway:
        answer, _ = gateway.get("/readyz"), gateway.get("/readyz")
    (told,) = [line for line in caplog.messages if "part='database'" in line]
    assert "dependency_down" in told
    assert "password authentication failed" in told
    assert "hunter2" not in caplog.text
    assert answer.json()["parts"]["database"]["reason"] == (
        "the database did not answer in time; try again"
    )


def scraped(gateway: Gateway) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(gateway.get("/metrics").text)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_count_jobs_queues_webhooks_and_requests(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    with running_gateway(module_stack.settings()) as gateway:
        gateway.created(**{"webhook[url]": "https://203.0.114.7/hook"})
        fake_worker.fail(fake_worker.claim(), OutOfMemory("too large"))
        gateway.created()
        gateway.created(model=MODEL.name, prompt="x")
        gateway.get("/v1/jobs/job_1")
        gateway.http.request("PURGE", f"{gateway.url}/secret-token", timeout=60)
        found = scraped(gateway)
    assert found["stillreel_database_up",] == 1
    assert found["stillreel_jobs", MOVES.name, "failed"] == 1
    assert found["stillreel_jobs", MODEL.name, "queued"] == 1
    assert found["stillreel_queue_jobs", MOVES.name] == 1
    assert found["stillreel_queue_oldest_seconds", MOVES.name] > 0
    assert found["stillreel_webhook_deliveries", "pending"] == 1
    assert found["stillreel_webhook_deliveries", "dead"] == 0
    assert found["stillreel_workers_alive",] == 1
    requests = "stillreel_http_requests_total"
    assert found[requests, "POST", "/v1/jobs", "202"] == 3
    assert found[requests, "GET", "/v1/jobs/{job_id}", "404"] == 1
    assert found[requests, "other", "unmatched", "404"] == 1
    assert not any("secret-token" in label for name in found for label in name)


def test_a_scrape_without_postgres_tells_so_and_nothing_else(module_stack: Stack) -> None:
    with running_gateway(without_database(module_stack)) as gateway:
        found = scraped(gateway)
    assert found["stillreel_database_up",] == 0
    assert not any(name[0] == "stillreel_jobs" for name in found)


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in {"src", "href"} and value]


def test_the_docs_load_nothing_from_elsewhere(gateway: Gateway) -> None:
    page = gateway.get("/docs")
    links = Links()
    links.feed(page.text)
    assert any("swagger-ui-bundle.js" in link for link in links.found)
    for link in links.found:
        assert not re.match(r"(https?:)?//", link)
        if not link.startswith("data:"):
            assert gateway.get(f"/{link}").status_code == 200
    assert "<script>" not in page.text


def openapi() -> dict[str, Any]:
    document: dict[str, Any] = create_app(Settings(_env_file=None)).openapi()
    return document


def test_the_description_resolves_and_names_every_field() -> None:
    document = openapi()
    named = set(re.findall(r"'\$ref': '#/components/schemas/(\w+)'", repr(document)))
    assert named <= set(document["components"]["schemas"])
    assert "'$ref': '#/$defs" not in repr(document["paths"]["/v1/jobs"])
    body = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]
    for kind in ("multipart/form-data", "application/json"):
        assert {"image", "prompt", "steps"} <= set(body[kind]["schema"]["properties"])
    parameters = document["paths"]["/v1/jobs"]["get"]["parameters"]
    assert {"after", "limit", "metadata"} <= {parameter["name"] for parameter in parameters}


def test_every_route_is_described() -> None:
    app = create_app(Settings(_env_file=None))
    docs = {"GET /docs", "GET /docs/start.js", "GET /docs/ui", "GET /openapi.json"}
    page = {"GET /", "GET /admin", "GET /web"}
    hidden = docs | page | {route for route in routes(app) if route.startswith("HEAD ")}
    assert set(described(app)) == set(routes(app)) - hidden


def test_the_description_says_what_takes_a_key() -> None:
    document = openapi()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert document["security"] == [{"key": []}, {"session": []}]
    by_link = {
        path
        for path, item in document["paths"].items()
        if any({"link": []} in operation.get("security", []) for operation in item.values())
    }
    assert by_link == {"/v1/jobs/{job_id}/content", "/v1/batches/{batch_id}/content"}
    open_to_all = {
        path
        for path, item in document["paths"].items()
        if any(operation.get("security") == [] for operation in item.values())
    }
    assert open_to_all == {"/livez", "/readyz", "/metrics"}


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/models", "/v1/queue", "/readyz"])
def test_an_answer_is_the_json_it_says(gateway: Gateway, path: str) -> None:
    answer = gateway.get(path)
    assert answer.headers["Content-Type"] == "application/json"
    assert isinstance(answer.json(), dict)
