"""Replicate's own client, unchanged, on `/compat/replicate` of a running gateway."""

import asyncio
import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from replicate.client import Client
from replicate.exceptions import ModelError, ReplicateError
from replicate.webhook import Webhooks, WebhookSigningSecret
from sqlalchemy import insert, select

from api.compat.replicate.routes import PAGE
from shared.errors import OutOfMemory
from shared.ids import new_id
from shared.jobs.job import Job, public_id
from shared.tables.jobs import jobs
from tests.support.gateway import (
    ADMIN_KEY,
    FakeWorker,
    Gateway,
    beside,
    data_uri,
    photo_png,
)
from tests.support.outbox import Outbox, Sender
from tests.support.receiver import Receiver

MODEL = "stillreel/moves"
FOLDER = "/compat/replicate"


@contextlib.contextmanager
def client_of(gateway: Gateway, key: str | None = ADMIN_KEY) -> Iterator[Client]:
    """Yield a client, and close its connections, which it never does itself."""
    client = Client(api_token=key, base_url=f"{gateway.url}{FOLDER}")
    client.poll_interval = 0.05
    yield client
    client._client.close()


@pytest.fixture
def client(keyed_gateway: Gateway) -> Iterator[Client]:
    with client_of(keyed_gateway) as client:
        yield client


def values(**more: Any) -> dict[str, Any]:
    return {"image": data_uri(photo_png()), "prompt": "push in", **more}


def create(client: Client, **more: Any) -> Any:
    return client.models.predictions.create(model=MODEL, input=values(**more))


def native(gateway: Gateway, prediction_id: str) -> dict[str, Any]:
    body: dict[str, Any] = gateway.get(f"/v1/jobs/{prediction_id}").json()
    return body


def fetched(url: str) -> bytes:
    """Follow a link without a key, because the link needs none."""
    answer = requests.get(url, timeout=30)
    answer.raise_for_status()
    return answer.content


def test_a_prediction_goes_from_create_to_its_file(
    client: Client, fake_worker: FakeWorker
) -> None:
    made = create(client)
    assert (made.status, made.output, made.error) == ("starting", None, None)
    assert made.model == MODEL
    claimed = fake_worker.claim()
    fake_worker.beat(claimed, 5)
    made.reload()
    assert made.status == "processing"
    assert made.progress is not None
    assert (made.progress.current, made.progress.total) == (5, 10)
    assert 0 < made.progress.percentage < 1
    fake_worker.complete(claimed, b"the clip")
    made.wait()
    assert made.status == "succeeded"
    assert isinstance(made.output, str)
    assert fetched(made.output) == b"the clip"
    assert made.metrics is not None
    assert made.metrics["predict_time"] >= 0


def test_the_facades_view_and_our_own_agree(
    keyed_gateway: Gateway, client: Client, fake_worker: FakeWorker
) -> None:
    made = create(client, max_frames=24, frames_per_second=12, seed=7, negative_prompt="blur")
    fake_worker.complete(fake_worker.claim())
    made.reload()
    job = native(keyed_gateway, made.id)
    assert (job["input"]["num_frames"], job["input"]["fps"], job["seed"]) == (24, 12, 7)
    shown = {name: value for name, value in job["input"].items() if value is not None}
    assert made.input == shown | {"seed": 7}
    assert made.output == job["output"]["video"]["url"]
    assert made.started_at == job["started_at"]
    assert made.completed_at == job["finished_at"]
    mine = keyed_gateway.created()["id"]
    assert [each.id for each in client.predictions.list()] == [mine, made.id]


@pytest.mark.parametrize("wait", [True, 20, False])
@pytest.mark.parametrize("is_version", [True, False])
def test_run_returns_the_link_to_the_clip(
    keyed_gateway: Gateway,
    client: Client,
    fake_worker: FakeWorker,
    is_version: bool,
    wait: bool | int,
) -> None:
    ref = MODEL
    if is_version:
        version = client.models.get(MODEL).latest_version
        assert version is not None
        ref = f"{MODEL}:{version.id}"
    running = beside(lambda: client.run(ref, input=values(), wait=wait))
    fake_worker.complete(fake_worker.claim(), b"the clip")
    assert fetched(str(running.result(timeout=60))) == b"the clip"


def test_a_wait_that_lapses_says_starting_even_of_a_render(
    client: Client, fake_worker: FakeWorker
) -> None:
    waiting = beside(lambda: client.predictions.create(version=MODEL, input=values(), wait=2))
    fake_worker.claim()
    prediction = waiting.result(timeout=60)
    shown: str = prediction.status
    assert shown == "starting"
    prediction.reload()
    shown = prediction.status
    assert shown == "processing"


def test_a_failure_raises_the_clients_own_error(client: Client, fake_worker: FakeWorker) -> None:
    running = beside(lambda: client.run(MODEL, input=values()))
    fake_worker.fail(fake_worker.claim(), OutOfMemory("the clip is too large"))
    with pytest.raises(ModelError, match="gpu_out_of_memory: the clip is too large"):
        running.result(timeout=60)


def test_a_cancel_is_final_and_a_second_one_changes_nothing(
    keyed_gateway: Gateway, client: Client, fake_worker: FakeWorker
) -> None:
    made = create(client)
    made.cancel()
    assert made.status == "canceled"
    assert native(keyed_gateway, made.id)["status"] == "canceled"
    made.cancel()
    assert made.status == "canceled"
    done = create(client)
    fake_worker.complete(fake_worker.claim())
    assert client.predictions.cancel(done.id).status == "succeeded"


def test_a_file_is_brought_before_its_prediction(
    keyed_gateway: Gateway, client: Client, tmp_path: Path
) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(photo_png())
    with photo.open("rb") as file:
        made = client.models.predictions.create(model=MODEL, input={"image": file})
    by_form = keyed_gateway.created()
    shown = native(keyed_gateway, made.id)
    assert shown["input"]["image_sha256"] == by_form["input"]["image_sha256"]
    kept = client.files.create(photo)
    assert kept.size == len(photo_png())
    assert kept.urls["get"].endswith(f"{FOLDER}/v1/files/{kept.id}")
    assert client.files.get(kept.id).size == kept.size
    assert client.files.delete(kept.id)
    for use in (
        lambda: client.files.get(kept.id),
        lambda: create(client, image=kept.urls["get"]),
    ):
        with pytest.raises(ReplicateError) as refused:
            use()
        assert refused.value.status in (404, 422)


def test_a_data_uri_is_what_base64_files_become(client: Client) -> None:
    made = client.models.predictions.create(
        model=MODEL,
        input={"image": io.BytesIO(photo_png())},
        file_encoding_strategy="base64",
    )
    assert made.status == "starting"


def test_a_page_leads_to_the_next(client: Client, fake_worker: FakeWorker) -> None:
    create(client)
    with fake_worker.db.begin() as connection:
        row = connection.execute(select(jobs)).mappings().one()
        made = sorted((row["id"], *(new_id() for _ in range(PAGE))), reverse=True)
        given = {name: value for name, value in row.items() if value is not None}
        connection.execute(insert(jobs), [given | {"id": job_id} for job_id in made[:-1]])
    first = client.predictions.list()
    assert first.next is not None
    second = client.predictions.list(first.next)
    assert [each.id for each in (*first, *second)] == [public_id(each) for each in made]
    assert (len(first.results), second.next) == (PAGE, None)


def test_models_and_their_versions(client: Client) -> None:
    assert [each.id for each in client.models.list()] == [MODEL, "stillreel/model"]
    model = client.models.get(MODEL)
    assert model.latest_version is not None
    assert [each.id for each in model.versions.list()] == [model.latest_version.id]
    version = model.versions.get(model.latest_version.id)
    assert "image" in version.openapi_schema["components"]["schemas"]["Input"]["properties"]


@pytest.mark.parametrize(
    ("ref", "status", "told"),
    [
        ("stillreel/nothing", 404, "there is moves, model"),
        ("meta/llama", 404, "models here are called stillreel/NAME"),
        ("stillreel/moves:moves@9", 422, "its version is moves@1"),
        ("stillreel/moves:" + "0" * 64, 404, "there is moves, model"),
    ],
)
def test_what_is_not_here_is_told_what_is(
    client: Client, ref: str, status: int, told: str
) -> None:
    with pytest.raises(ReplicateError) as refused:
        client.run(ref, input=values())
    assert refused.value.status == status
    assert told in str(refused.value.detail)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"image": None}, "image is missing"),
        ({"num_frames": "many"}, "num_frames must be a whole number"),
        ({"frames_per_second": 900}, "fps 900 is out of range"),
        ({"size": "huge"}, "it takes one like 1280x720"),
        ({"image": "http://127.0.0.1:9/a.png"}, "image.url"),
    ],
)
def test_a_wrong_input_is_a_replicate_error(
    client: Client, more: dict[str, Any], told: str
) -> None:
    with pytest.raises(ReplicateError) as refused:
        create(client, **more)
    assert refused.value.status == 422
    assert told in str(refused.value.detail)


def test_what_means_nothing_here_is_named_in_the_warnings(
    keyed_gateway: Gateway, client: Client
) -> None:
    made = create(client, motion_bucket_id=127, go_fast=True)
    assert native(keyed_gateway, made.id)["warnings"] == [
        "motion_bucket_id, go_fast was ignored: it means nothing here"
    ]


def test_while_there_is_no_key_any_or_none_will_do(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REPLICATE_API_TOKEN", raising=False)
    for key in (None, "r8_" + "x" * 37):
        with client_of(gateway, key) as client:
            assert create(client).status == "starting"


def test_a_wrong_key_is_refused(keyed_gateway: Gateway) -> None:
    with client_of(keyed_gateway, "r8_wrong") as client, pytest.raises(ReplicateError) as refused:
        client.predictions.list()
    assert refused.value.status == 401


def test_the_async_client_does_the_same(keyed_gateway: Gateway, fake_worker: FakeWorker) -> None:
    async def walk(client: Client) -> None:
        running = asyncio.create_task(
            client.async_run(MODEL, input={"image": io.BytesIO(photo_png())})
        )
        claimed: Job = await asyncio.to_thread(fake_worker.claim)
        await asyncio.to_thread(fake_worker.complete, claimed, b"the clip")
        link = await running
        assert await asyncio.to_thread(fetched, str(link)) == b"the clip"
        made = await client.models.predictions.async_create(model=MODEL, input=values())
        await made.async_cancel()
        assert made.status == "canceled"
        assert len(list(await client.predictions.async_list())) == 2
        assert (await client.models.async_get(MODEL)).name == "moves"
        await client._async_client.aclose()

    with client_of(keyed_gateway) as client:
        asyncio.run(walk(client))


@pytest.fixture
def webhook_client(webhook_gateway: Gateway) -> Iterator[Client]:
    with client_of(webhook_gateway) as client:
        yield client


@pytest.mark.parametrize(
    ("wanted", "statuses"),
    [
        (["completed"], ["succeeded"]),
        (["start"], ["processing"]),
        (["output"], ["succeeded"]),
        (["logs"], ["processing", "succeeded"]),
        (None, ["processing", "succeeded"]),
    ],
)
def test_webhooks_bring_the_prediction_signed(
    outbox: Outbox,
    running_sender: Sender,
    receiver: Receiver,
    webhook_client: Client,
    fake_worker: FakeWorker,
    wanted: list[str] | None,
    statuses: list[str],
) -> None:
    more: dict[str, Any] = {} if wanted is None else {"webhook_events_filter": wanted}
    made = webhook_client.models.predictions.create(
        model=MODEL, input=values(), webhook=receiver.url("/hook"), **more
    )
    claimed = fake_worker.claim()
    if "processing" in statuses:
        receiver.wait_for(1, "/hook")
    fake_worker.complete(claimed)
    received = receiver.wait_for(len(statuses), "/hook")
    secret = webhook_client.webhooks.default.secret()
    for request in received:
        Webhooks.validate(headers=dict(request.headers), body=request.body.decode(), secret=secret)
    told = [json.loads(each.body) for each in received]
    assert [each["status"] for each in told] == statuses
    assert {each["id"] for each in told} == {made.id}
    assert isinstance(secret, WebhookSigningSecret)
    if statuses[-1] == "succeeded":
        made.reload()
        assert told[-1]["output"].endswith(str(made.output).partition("/v1/jobs")[2])
        assert told[-1]["logs"] == made.logs


def test_a_registered_endpoint_gets_our_own_view_of_a_prediction(
    outbox: Outbox,
    running_sender: Sender,
    receiver: Receiver,
    webhook_gateway: Gateway,
    webhook_client: Client,
    fake_worker: FakeWorker,
) -> None:
    outbox.endpoint(receiver.url("/mine"))
    made = create(webhook_client)
    fake_worker.complete(fake_worker.claim())
    (received,) = receiver.wait_for(1, "/mine")
    body = received.json()
    assert (body["type"], body["data"]["object"]) == ("job.succeeded", "job")
    assert body["data"]["id"] == made.id


def test_a_wrong_filter_is_told_the_names(client: Client) -> None:
    with pytest.raises(ReplicateError) as refused:
        client.models.predictions.create(
            model=MODEL,
            input=values(),
            webhook="https://example.org/hook",
            webhook_events_filter=["done"],
        )
    assert "start, output, logs, completed" in str(refused.value.detail)
