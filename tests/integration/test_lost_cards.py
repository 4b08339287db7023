"""The log, readiness and models report a card that fell off the bus; other cards go on."""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from shared.db import Database
from shared.engines.registry import EngineRegistry
from tests.support.gateway import MODEL, MOVES, FakeWorker, Gateway
from tests.support.processes import Crew, crew, until
from tests.support.stack import Stack
from worker.engines import chosen
from worker.supervisor import card_watch
from worker.supervisor.card_watch import CardWatch
from worker.supervisor.gpus import CardsUnknown, Found, Gpu
from worker.supervisor.worker_config import CONFIG_VARIABLE, WorkerConfig

PINS = ("GPU-1", "GPU-2")
PLACES = [
    WorkerConfig(
        worker=f"host-gpu{number}",
        heartbeat_path="",
        device="cuda:0",
        cuda_visible_devices=pin,
        device_name="NVIDIA H100",
        vram_bytes=80 * 1024**3,
        engines=chosen(f"{MODEL.name}=module:Class", has_gpu=True),
    )
    for number, pin in enumerate(PINS)
]
NVIDIA_SMI = """#!/bin/sh
case "$*" in
-L) ;;
*--id=*) echo "No devices were found"; exit 6;;
*) cat "$(dirname "$0")/cards";;
esac
"""


class Host:
    """A host whose cards answer until the test removes them."""

    def __init__(self) -> None:
        self.answering = list(PINS)
        self.is_silent = False

    def look(self) -> Found:
        if self.is_silent:
            raise CardsUnknown("nvidia-smi did not answer")
        return Found([Gpu(str(PINS.index(pin)), "H100", 1, pin) for pin in self.answering])


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def watch(fake_worker: FakeWorker, host: Host) -> CardWatch:
    return CardWatch(PLACES, [], look=host.look, registry=fake_worker.registry)


def test_two_looks_that_miss_a_card_lose_it_and_one_that_sees_it_brings_it_back(
    watch: CardWatch, host: Host
) -> None:
    host.answering.remove("GPU-2")
    watch.look()
    assert not watch.is_lost("host-gpu1")
    watch.look()
    assert (watch.is_lost("host-gpu0"), watch.is_lost("host-gpu1")) == (False, True)
    host.answering.append("GPU-2")
    watch.look()
    assert not watch.is_lost("host-gpu1")


def test_a_look_without_an_answer_loses_nothing(watch: CardWatch, host: Host) -> None:
    host.is_silent = True
    for _ in range(2 * card_watch.LOOKS):
        watch.look()
    assert not watch.is_lost("host-gpu0")


def test_readiness_and_models_tell_of_it_while_the_others_work(
    gateway: Gateway, watch: CardWatch, host: Host
) -> None:
    assert "cards" not in gateway.get("/readyz").json()["parts"]
    host.answering.remove("GPU-2")
    for _ in range(card_watch.LOOKS):
        watch.look()
    watch.show()

    ready = until(
        lambda: (it := gateway.get("/readyz")).json()["status"] == "degraded" and it,
        "readiness tells of it",
    )
    assert ready.status_code == 200
    part = ready.json()["parts"]["cards"]
    assert not part["ok"]
    assert "1 card fell off the bus" in part["reason"]
    models = {model["id"]: model for model in gateway.get("/v1/models").json()["data"]}
    assert models[MODEL.name]["lost_cards"] == 1
    assert models[MOVES.name]["lost_cards"] == 0
    # Only the fake worker counts, because a lost card is no worker.
    assert models[MODEL.name]["workers"] == 1
    assert gateway.get("/v1/queue").json()["totals"]["workers"] == 1
    gateway.created()


def test_a_card_that_was_lost_before_the_start_is_shown_too(
    fake_worker: FakeWorker, host: Host
) -> None:
    watch = CardWatch(PLACES, ["host-gpu1"], look=host.look, registry=fake_worker.registry)
    watch.look()
    watch.show()
    assert [
        offer.lost_cards for offer in fake_worker.registry.offers() if offer.spec.name == "model"
    ] == [1]


@pytest.fixture
def people(stack: Stack, tmp_path: Path) -> Iterator[Crew]:
    with crew(stack, tmp_path) as people:
        yield people


@pytest.mark.extended
def test_the_worker_of_a_lost_card_ends_and_the_other_goes_on(
    people: Crew, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, cards = tmp_path / "nvidia-smi", tmp_path / "cards"
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    lines = [f"{number}, {pin}, Fake H100, 81559" for number, pin in enumerate(PINS)]
    cards.write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    worker = people.start("tests.support.quick_looks", engines="camera", worker_id="here")

    def mains() -> dict[str, psutil.Process]:
        found = {}
        for child in psutil.Process(worker.pid).children():
            # Each look at the cards is a child process that soon ends.
            with contextlib.suppress(psutil.NoSuchProcess):
                if CONFIG_VARIABLE in child.environ():
                    found[child.environ()["CUDA_VISIBLE_DEVICES"]] = child
        return found

    until(lambda: set(mains()) == set(PINS), "both workers run")
    before = mains()
    assert "127.0.0.1" in before["GPU-1"].environ()["NO_PROXY"].split(",")
    cards.write_text(f"{lines[0]}\n1, GPU-2, [GPU is lost], [GPU is lost]\n")
    until(lambda: set(mains()) == {"GPU-1"}, "the worker of the lost card is gone")
    assert mains()["GPU-1"].pid == before["GPU-1"].pid
    url = stack.settings().database_url.get_secret_value()
    with contextlib.closing(Database(url, deadline=timedelta(seconds=60))) as db:
        until(
            lambda: [o for o in EngineRegistry(db).offers() if o.lost_cards], "the gateway is told"
        )
    assert "card_lost" in worker.text()
    cards.write_text("\n".join(lines) + "\n")
    until(lambda: set(mains()) == set(PINS), "the card that is back has a worker again")
    assert worker.terminate() == 0
