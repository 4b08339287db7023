"""A clip too large for every card is refused with sizes that fit; others find their card."""

import re
from typing import Any

import pytest

from shared.engines.gpu_memory import Footprint, MemoryMode
from shared.engines.registry import WorkerInfo
from shared.engines.spec import EngineSpec
from tests.support.gateway import MODEL, FakeWorker, Gateway, photo_png

GIB = 2**30
HEAVY = MODEL.model_copy(
    update={
        "name": "heavy",
        "prompt_required": False,
        "max_side": 2048,
        "footprint": Footprint(
            fixed_bytes=GIB,
            bytes_per_decoded_pixel=1600,
            ways=(
                MemoryMode(
                    name="normal",
                    weights_bytes=5 * GIB,
                    encoding_bytes=GIB // 10,
                    bytes_per_pixel_frame=560,
                    decode_frames=2,
                ),
                MemoryMode(
                    name="low",
                    weights_bytes=3 * GIB,
                    encoding_bytes=GIB,
                    bytes_per_pixel_frame=350,
                    decode_frames=1,
                ),
            ),
        ),
    }
)
LANDSCAPE = photo_png(size=(192, 128))


def test_what_fits_the_largest_card_is_taken(gateway: Gateway, fake_worker: FakeWorker) -> None:
    serve(fake_worker, 6, 8)

    job = gateway.created(model="heavy", resolution="512p", num_frames=31)

    assert job["input"]["num_frames"] == 31


def test_a_clip_too_large_for_every_card_is_refused_with_what_would_fit(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    serve(fake_worker, 6, 8)

    answer = gateway.create(model="heavy", image=LANDSCAPE, resolution="1024p", num_frames=32)

    body = answer.json()
    assert (answer.status_code, body["code"], body["param"]) == (
        422,
        "too_large_for_gpu",
        "resolution",
    )
    assert body["detail"] == (
        "a clip of 1536 x 1024 with 32 frames needs 20.4 GiB of GPU memory, and the largest card"
        " at work for heavy has 8.0 GiB; try resolution 768p with num_frames 13 or resolution 256p"
    )
    assert gateway.get("/v1/jobs").json()["data"] == []


@pytest.mark.parametrize(
    ("card_gib", "sent"),
    [
        (8, {"resolution": "768p", "num_frames": 30}),
        (8, {"width": 1024, "height": 1024, "num_frames": 32}),
        (8, {"width": 1280, "height": 704}),
        (5, {"resolution": "768p"}),
        (5.2, {"resolution": "512p"}),
        (5, {"width": 1280, "height": 704}),
        (12, {"resolution": "1024p", "num_frames": 31}),
    ],
)
def test_what_would_fit_is_taken_and_the_next_larger_refused(
    gateway: Gateway, fake_worker: FakeWorker, card_gib: float, sent: dict[str, Any]
) -> None:
    serve(fake_worker, card_gib)
    image = LANDSCAPE if "resolution" in sent else None
    refused = gateway.create(model="heavy", image=image, **sent)
    assert refused.status_code == 422

    ways = advised(refused.json()["detail"])

    assert ways
    for way in ways:
        gateway.created(model="heavy", image=image, **{**sent, **way})
        larger = gateway.create(model="heavy", image=image, **{**sent, **a_little_more(way)})
        assert larger.status_code == 422
        assert larger.json()["code"] == "too_large_for_gpu"


def test_a_card_too_small_for_the_model_says_so(gateway: Gateway, fake_worker: FakeWorker) -> None:
    serve(fake_worker, 4)

    answer = gateway.create(model="heavy", resolution="256p", num_frames=8)

    assert answer.status_code == 422
    assert answer.json()["detail"].endswith("has 4.0 GiB; and no clip of this model fits there")


@pytest.mark.parametrize("cards", [(), (None,), (6, None), (0,)], ids=str)
def test_where_no_cards_memory_is_known_everything_is_taken(
    gateway: Gateway, fake_worker: FakeWorker, cards: tuple[float | None, ...]
) -> None:
    serve(fake_worker, *cards)

    gateway.created(model="heavy", resolution="1024p", num_frames=32)


def test_a_stopped_workers_card_does_not_count(gateway: Gateway, fake_worker: FakeWorker) -> None:
    serve(fake_worker, 6)
    fake_worker.registry.beat(card("gone", 80, state="stopped"))

    assert gateway.create(model="heavy", resolution="1024p").status_code == 422


def test_a_model_that_says_nothing_of_memory_is_never_too_large(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    plain = HEAVY.model_copy(update={"name": "plain", "footprint": None})
    fake_worker.registry.offer([plain])
    fake_worker.registry.beat(card("small", 1, engines=["plain"]))

    gateway.created(model="plain", resolution="1024p", num_frames=32)


def test_a_small_card_leaves_a_large_clip_to_a_larger_one(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    serve(fake_worker, 6, 24)
    large = gateway.created(model="heavy", resolution="768p", num_frames=32)
    small = gateway.created(model="heavy", resolution="512p", num_frames=8)

    by_small = fake_worker.jobs.claim(["heavy"], worker="small", card_bytes=6 * GIB)
    again = fake_worker.jobs.claim(["heavy"], worker="small", card_bytes=6 * GIB)
    by_large = fake_worker.jobs.claim(["heavy"], worker="large", card_bytes=24 * GIB)

    assert by_small is not None
    assert by_small.public_id == small["id"]
    assert again is None
    assert by_large is not None
    assert by_large.public_id == large["id"]


def test_a_worker_that_does_not_know_its_card_takes_what_comes(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    serve(fake_worker, None)
    gateway.created(model="heavy", resolution="1024p", num_frames=32)

    assert fake_worker.jobs.claim(["heavy"], worker="unknown") is not None


def test_a_model_shows_what_the_cards_at_work_can_render(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    serve(fake_worker, 6, 8)

    shown = gateway.get("/v1/models/heavy").json()

    assert shown["card_bytes"] == 8 * GIB
    square, wide = shown["max_frames"]["768p"][0], shown["max_frames"]["768p"][3]
    assert (square, wide) == (20, 11)
    assert shown["max_frames"]["512p"] == [32, 32, 31, 26, 32, 31, 26]
    assert shown["buckets"]["768p"][3] == [1344, 768]
    assert gateway.create(model="heavy", width=1344, height=768, num_frames=wide).ok
    assert not gateway.create(model="heavy", width=1344, height=768, num_frames=wide + 1).ok


def test_without_a_known_card_a_model_shows_its_own_limits(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    serve(fake_worker)

    shown = gateway.get("/v1/models/heavy").json()

    assert shown["card_bytes"] is None
    assert shown["max_frames"]["1024p"] == [32] * 7


def serve(fake_worker: FakeWorker, *cards_gib: float | None) -> None:
    """Register one live worker of `heavy` for each card; None is a card of unknown size."""
    fake_worker.registry.offer([HEAVY])
    for number, gib in enumerate(cards_gib):
        fake_worker.registry.beat(card(f"worker{number}", gib))


def card(
    name: str, gib: float | None, *, state: str = "ready", engines: list[str] | None = None
) -> WorkerInfo:
    return WorkerInfo(
        name=name,
        host="here",
        pid=1,
        device="cuda:0",
        device_name="a card",
        vram_bytes=None if gib is None else int(gib * GIB),
        engines=engines or [HEAVY.name],
        resident_engine=None,
        state=state,
        model_loads=0,
    )


def advised(sentence: str) -> list[dict[str, str]]:
    """Return the fields of each alternative that a refusal names."""
    _, found, advice = sentence.partition("; try ")
    assert found
    return [
        dict(re.findall(r"(resolution|num_frames|width|height) (\w+)", way))
        for way in advice.split(" or ")
    ]


def a_little_more(way: dict[str, str]) -> dict[str, str]:
    """Return the next larger clip: one more frame, the next resolution, or larger sides."""
    spec: EngineSpec = HEAVY
    if "num_frames" in way:
        return {**way, "num_frames": str(int(way["num_frames"]) + 1)}
    if "resolution" in way:
        names = ["256p", "512p", "768p", "1024p"]
        return {**way, "resolution": names[names.index(way["resolution"]) + 1]}
    return {name: str(int(side) + spec.multiple) for name, side in way.items()}
