"""OpenAI's own client, unchanged, on `/v1/videos`; a strict one checks each answer's shape."""

import asyncio
import io
import json
from collections.abc import Iterator
from typing import Any, Literal, cast

import pytest
from openai import (
    APIStatusError,
    AsyncOpenAI,
    AuthenticationError,
    ConflictError,
    NotFoundError,
    OpenAI,
    UnprocessableEntityError,
)

from shared.errors import OutOfMemory
from shared.jobs.job import Job
from tests.support import receiver as twin
from tests.support.gateway import (
    ADMIN_KEY,
    MODEL,
    FakeWorker,
    Gateway,
    beside,
    data_uri,
    photo_png,
)
from tests.support.receiver import Receiver

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

WIDE: Literal["1280x720"] = "1280x720"
"""One of the four sizes in OpenAI's types; a strict client refuses others."""


def client_of(gateway: Gateway, key: str = ADMIN_KEY, *, strict: bool = True) -> OpenAI:
    return OpenAI(
        api_key=key,
        base_url=f"{gateway.url}/v1",
        max_retries=0,
        _strict_response_validation=strict,
    )


@pytest.fixture
def client(keyed_gateway: Gateway) -> Iterator[OpenAI]:
    with client_of(keyed_gateway) as client:
        yield client


def photo() -> tuple[str, bytes, str]:
    return ("photo.png", photo_png(), "image/png")


def create(client: OpenAI, **fields: Any) -> Any:
    given: Any = {"size": WIDE, "prompt": "push in", "input_reference": photo(), **fields}
    return client.videos.create(**given)


def native(gateway: Gateway, video_id: str) -> dict[str, Any]:
    body: dict[str, Any] = gateway.get(f"/v1/jobs/{video_id}").json()
    return body


def test_a_video_goes_from_create_to_its_file(client: OpenAI, fake_worker: FakeWorker) -> None:
    made = create(client, seconds="4", model="moves")
    assert (made.status, made.progress, made.seconds, made.size) == ("queued", 0, "4", WIDE)
    claimed = fake_worker.claim()
    fake_worker.beat(claimed, 5)
    running = client.videos.retrieve(made.id)
    assert running.status == "in_progress"
    assert 0 < running.progress < 100
    fake_worker.complete(claimed, b"the clip")
    done = client.videos.retrieve(made.id)
    assert (done.status, done.progress, done.error) == ("completed", 100, None)
    assert done.completed_at is not None
    assert done.completed_at >= done.created_at
    assert client.videos.download_content(made.id).read() == b"the clip"
    for variant in ("thumbnail", "spritesheet"):
        answer = client.videos.download_content(made.id, variant=variant)
        assert answer.response.headers["content-type"] == "image/webp"


def test_the_facades_view_and_our_own_agree(
    keyed_gateway: Gateway, client: OpenAI, fake_worker: FakeWorker
) -> None:
    made = create(client, seconds="2", extra_body={"fps": 12, "seed": 7})
    fake_worker.complete(fake_worker.claim())
    video, job = client.videos.retrieve(made.id), native(keyed_gateway, made.id)
    shown = job["input"]
    assert (shown["num_frames"], shown["fps"], job["seed"]) == (24, 12, 7)
    assert (video.prompt, video.model) == (shown["prompt"], job["model"])
    assert video.size == f"{shown['width']}x{shown['height']}"
    assert float(str(video.seconds)) == shown["num_frames"] / shown["fps"]
    # This job is made with our own API.
    mine = keyed_gateway.created(width="1280", height="720")["id"]
    assert [each.id for each in client.videos.list(limit=2)] == [mine, made.id]


def test_create_and_poll_ends_with_the_video(client: OpenAI, fake_worker: FakeWorker) -> None:
    waiting = beside(
        lambda: client.videos.create_and_poll(
            prompt="push in", input_reference=photo(), size=WIDE, poll_interval_ms=50
        )
    )
    fake_worker.complete(fake_worker.claim())
    assert waiting.result(timeout=60).status == "completed"


def test_a_failure_is_a_video_and_no_exception(client: OpenAI, fake_worker: FakeWorker) -> None:
    made = create(client)
    fake_worker.fail(fake_worker.claim(), OutOfMemory("the clip is too large"))
    failed = client.videos.poll(made.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert (failed.error.code, failed.error.message) == (
        "gpu_out_of_memory",
        "the clip is too large",
    )
    with pytest.raises(ConflictError) as refused:
        client.videos.download_content(made.id)
    assert refused.value.code == "job_terminal"


def test_a_cancel_is_a_failed_video(keyed_gateway: Gateway, client: OpenAI) -> None:
    made = create(client)
    canceled = client.post(f"/videos/{made.id}/cancel", cast_to=type(made))
    assert canceled.status == "failed"
    assert canceled.error is not None
    assert canceled.error.code == "canceled"
    assert native(keyed_gateway, made.id)["status"] == "canceled"


def test_pages_of_a_listing_follow_each_other(client: OpenAI) -> None:
    made = [create(client).id for _ in range(3)]
    assert [each.id for each in client.videos.list(limit=1)] == made[::-1]
    assert [each.id for each in client.videos.list(limit=2, order="asc")] == made
    page = client.videos.list(limit=2)
    assert (page.has_more, page.last_id) == (True, made[1])


def test_a_deleted_video_is_gone(keyed_gateway: Gateway, client: OpenAI) -> None:
    made = create(client)
    deleted = client.videos.delete(made.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (made.id, True, "video.deleted")
    for ask in (client.videos.retrieve, client.videos.delete, client.videos.download_content):
        with pytest.raises(NotFoundError) as missing:
            ask(made.id)
        assert missing.value.code == "not_found"
    assert keyed_gateway.get(f"/v1/jobs/{made.id}").status_code == 404


def test_a_remix_is_another_clip_of_the_same_image(keyed_gateway: Gateway, client: OpenAI) -> None:
    made = create(client, seconds="3", extra_body={"metadata": {"post": "17"}})
    remix = client.videos.remix(made.id, prompt="tilt up")
    assert remix.remixed_from_video_id == made.id
    assert (remix.prompt, remix.seconds, remix.size) == ("tilt up", "3", WIDE)
    first, second = (native(keyed_gateway, each.id) for each in (made, remix))
    assert second["input"] == first["input"] | {"prompt": "tilt up"}
    assert second["seed"] != first["seed"]
    assert second["metadata"] == {"post": "17"}
    assert second["warnings"] == first["warnings"]
    # The video's image is deleted too, but the remix's copy is not.
    client.videos.delete(made.id)
    image = keyed_gateway.get(f"/v1/jobs/{remix.id}/content?variant=input")
    assert image.status_code == 200
    with pytest.raises(NotFoundError):
        client.videos.remix(made.id, prompt="again")


SPELLINGS: dict[str, dict[str, Any]] = {
    "openai's json": {"input_reference": {"image_url": data_uri(photo_png())}},
    "an object in an object": {"input_reference": {"image_url": {"url": data_uri(photo_png())}}},
    "a text": {"input_reference": data_uri(photo_png())},
    "json in a text": {"input_reference": json.dumps({"image_url": data_uri(photo_png())})},
    "vllm-omni": {"image_reference": {"image_url": data_uri(photo_png())}},
    "a list of one": {"image_reference": [{"image_url": data_uri(photo_png())}]},
    "sglang": {"reference_url": data_uri(photo_png())},
    "ours": {"image": {"data": data_uri(photo_png())}},
}


@pytest.mark.parametrize("kind", ["json", "form", "multipart"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_image_may_be_spelled_as_clients_do(
    keyed_gateway: Gateway, spelling: str, kind: str
) -> None:
    values = {"prompt": "push in", **SPELLINGS[spelling]}
    if kind == "json":
        answer = keyed_gateway.post("/v1/videos", json=values)
    else:
        form = {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in values.items()
        }
        parts = {name: (None, value) for name, value in form.items()}
        sent: dict[str, Any] = {"data": form} if kind == "form" else {"files": parts}
        answer = keyed_gateway.post("/v1/videos", **sent)
    assert answer.status_code == 200, answer.text
    assert answer.json()["warnings"] == []


def test_a_reference_by_url_is_fetched(client: OpenAI, receiver: Receiver) -> None:
    receiver.script("/cat.png", twin.status(200, photo_png()))
    body: Any = {"input_reference": {"image_url": receiver.url("/cat.png")}}
    made = client.videos.create(prompt="push in", size=WIDE, extra_body=body)
    assert made.status == "queued"


def test_vllm_omnis_fields_are_understood_and_others_are_named(
    keyed_gateway: Gateway, client: OpenAI
) -> None:
    made = create(
        client,
        size=None,
        extra_body={
            "width": 1280,
            "height": 720,
            "num_frames": 9,
            "fps": 10,
            "num_inference_steps": 30,
            "guidance_scale": 7.5,
            "seed": 11,
            "negative_prompt": "blur",
            "flow_shift": 5.0,
            "user": "somebody",
            "extra_params": {"guidance_scale": 7.5, "resolution": "256p", "lightning": True},
        },
    )
    job = native(keyed_gateway, made.id)
    shown = job["input"]
    assert (shown["width"], shown["height"], shown["num_frames"], shown["fps"]) == (
        *(1280, 720),
        *(9, 10),
    )
    assert (shown["num_inference_steps"], shown["guidance_scale"]) == (30, 7.5)
    assert (job["seed"], shown["negative_prompt"]) == (11, "blur")
    assert made.warnings == job["warnings"]
    assert job["warnings"][0] == (
        "flow_shift, user, extra_params.lightning was ignored: it means nothing here"
    )


def test_sizes_and_lengths_become_what_the_engine_makes(
    keyed_gateway: Gateway, fake_worker: FakeWorker
) -> None:
    with client_of(keyed_gateway, strict=False) as client:
        made = create(client, model=MODEL.name, seconds="12")
    assert (made.size, made.seconds) == ("1280x704", "4")
    assert made.warnings[:2] == [
        "size 1280x720 became 1280x704: sides of model are multiples of 64",
        "seconds 12 became 4: model makes 32 frames at 8 fps",
    ]


@pytest.mark.parametrize(
    ("fields", "param", "told"),
    [
        ({"size": "large"}, "size", "it takes one like 1280x720"),
        ({"seconds": "long"}, "seconds", "must be a number"),
        ({"seconds": "-4"}, "seconds", "greater than 0"),
        ({"size": "99998x99998"}, "size", "out of range"),
        ({"extra_body": {"width": 99998}}, "width", "out of range"),
        ({"extra_body": {"num_frames": "many"}}, "num_frames", "must be a whole number"),
        ({"extra_body": {"steps": 900}}, "steps", "out of range"),
        ({"input_reference": ("a.png", b"no image", "image/png")}, "input_reference", ""),
        ({"extra_body": {"extra_params": "[1]"}}, "extra_params", "takes an object"),
        ({"prompt": "\0"}, "prompt", "NUL"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_value_is_refused_by_the_name_the_client_used(
    client: OpenAI, fields: dict[str, Any], param: str, told: str
) -> None:
    with pytest.raises(APIStatusError) as refused:
        create(client, **fields)
    assert refused.value.status_code in (415, 422)
    assert refused.value.param == param
    assert told in refused.value.message
    assert client.videos.list().data == []


def test_a_video_without_an_image_is_told_to_bring_one(client: OpenAI) -> None:
    with pytest.raises(UnprocessableEntityError) as refused:
        client.videos.create(prompt="push in")
    assert refused.value.param == "input_reference"
    assert "input_reference is missing" in refused.value.message


def test_an_unknown_model_is_told_which_there_are(client: OpenAI) -> None:
    with pytest.raises(NotFoundError) as refused:
        create(client, model="sora-2")
    assert refused.value.code == "unknown_model"
    assert "there is moves, model" in refused.value.message


def test_the_same_idempotency_key_makes_one_video(client: OpenAI) -> None:
    headers = {"Idempotency-Key": "order-7"}
    first, again = (create(client, extra_headers=headers).id for _ in range(2))
    assert first == again
    with pytest.raises(UnprocessableEntityError) as refused:
        create(client, seconds="3", extra_headers=headers)
    assert refused.value.code == "idempotency_conflict"


def test_models_are_openais_with_ours_beside(client: OpenAI) -> None:
    listed = client.models.list().data
    assert [each.id for each in listed] == ["moves", "model"]
    found = client.models.retrieve("moves")
    assert (found.object, found.owned_by) == ("model", "stillreel")
    assert found.created > 0
    assert cast(Any, found).parameters["properties"]["fps"]["default"] == 8
    with pytest.raises(NotFoundError):
        client.models.retrieve("sora-2")


def test_what_openai_offers_besides_is_no_route_here(client: OpenAI) -> None:
    for path in ("/videos/edits", "/videos/extensions", "/videos/characters"):
        with pytest.raises(APIStatusError) as refused:
            client.post(path, cast_to=object, body={})
        assert refused.value.status_code in (404, 405)
        assert refused.value.type == "invalid_request_error"


def test_a_wrong_key_is_an_authentication_error(keyed_gateway: Gateway) -> None:
    with client_of(keyed_gateway, "sk-wrong") as client, pytest.raises(AuthenticationError):
        client.videos.list()


@pytest.mark.parametrize("key", ["none", "sk-proj-1234"])
def test_while_there_is_no_key_any_will_do(gateway: Gateway, key: str) -> None:
    with client_of(gateway, key) as client:
        made = create(client)
        assert client.videos.retrieve(made.id).id == made.id


def test_the_async_client_does_the_same(keyed_gateway: Gateway, fake_worker: FakeWorker) -> None:
    async def walk() -> None:
        async with AsyncOpenAI(
            api_key=ADMIN_KEY,
            base_url=f"{keyed_gateway.url}/v1",
            max_retries=0,
            _strict_response_validation=True,
        ) as client:
            waiting = asyncio.create_task(
                client.videos.create_and_poll(
                    prompt="push in",
                    input_reference=("photo.png", io.BytesIO(photo_png())),
                    size=WIDE,
                    poll_interval_ms=50,
                )
            )
            claimed: Job = await asyncio.to_thread(fake_worker.claim)
            await asyncio.to_thread(fake_worker.complete, claimed, b"the clip")
            done = await waiting
            assert (done.id, done.status) == (claimed.public_id, "completed")
            content = await client.videos.download_content(done.id)
            assert await content.aread() == b"the clip"
            assert [each.id async for each in client.videos.list(limit=1)] == [done.id]
            remix = await client.videos.remix(done.id, prompt="tilt up")
            assert remix.remixed_from_video_id == done.id
            assert (await client.videos.delete(done.id)).deleted
            assert [each.id async for each in client.models.list()] == ["moves", "model"]

    asyncio.run(walk())
