"""A worker reports its weights and downloads them if it may, and the gateway shows the state."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.engines.weights import WeightsState, WeightsView
from shared.errors import MissingWeights
from tests.integration.weights.conftest import settings_for
from tests.support.checkpoints import small_i2vgen_xl  # The import makes torch use one thread.
from tests.support.gateway import MODEL, FakeWorker, Gateway
from tests.support.processes import until
from tests.support.weights_hub import WeightsHub, weights_hub
from worker.engines import chosen
from worker.engines.i2vgen.checkpoint import LAYOUT
from worker.render.loaded_engines import LoadedEngines

NAME = LAYOUT.name


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_i2vgen_xl(tmp_path_factory.mktemp("small"))


@pytest.fixture
def hub(checkpoint: Path) -> Iterator[WeightsHub]:
    with weights_hub() as hub:
        hub.repositories[LAYOUT.hub_id] = checkpoint
        yield hub


def worker_with(hub: WeightsHub, tmp_path: Path, **changed: object) -> LoadedEngines:
    entries = chosen(f"{NAME},camera", has_gpu=False)
    return LoadedEngines(entries, settings_for(hub, tmp_path, **changed), device="cpu")


def unheard(fraction: float, what: str) -> None:
    """Report to nobody."""


def test_a_worker_without_weights_says_so_gets_them_and_says_how_far(
    hub: WeightsHub, tmp_path: Path
) -> None:
    engines = worker_with(hub, tmp_path)
    assert set(engines.weights()) == {NAME}
    assert engines.weights()[NAME].state is WeightsState.MISSING
    assert "downloaded when it is first used" in str(engines.weights()[NAME].message)

    hub.faults.hold_after = 64 * 1024
    loading = threading.Thread(target=engines.use, args=(NAME, unheard, unheard))
    loading.start()
    try:
        until(
            lambda: (
                engines.weights()[NAME].state is WeightsState.DOWNLOADING
                and 0 < engines.weights()[NAME].fraction < 1
            ),
            "the download shows, with its bytes",
            within=60,
        )
    finally:
        hub.go.set()
        loading.join(timeout=60)

    shown = engines.weights()[NAME]
    assert shown.state is WeightsState.READY
    assert shown.bytes_done == shown.bytes_total


def test_a_worker_that_may_not_download_says_what_to_do(hub: WeightsHub, tmp_path: Path) -> None:
    engines = worker_with(hub, tmp_path, download_weights=False)

    assert "python -m worker.weights pull i2vgen-xl" in str(engines.weights()[NAME].message)
    with pytest.raises(MissingWeights, match="may not download them"):
        engines.use(NAME, unheard, unheard)
    assert "may not download them: run" in str(engines.weights()[NAME].message)
    assert hub.asked == []


def test_a_worker_shows_why_its_download_failed(hub: WeightsHub, tmp_path: Path) -> None:
    hub.faults.gated = True
    engines = worker_with(hub, tmp_path)
    with pytest.raises(MissingWeights):
        engines.use(NAME, unheard, unheard)

    shown = engines.weights()[NAME]

    assert shown.state is WeightsState.MISSING
    assert "accept it on https://huggingface.co/ali-vilab/i2vgen-xl" in str(shown.message)


def test_a_folder_of_ones_own_is_ready_or_missing(
    hub: WeightsHub, checkpoint: Path, tmp_path: Path
) -> None:
    ours = worker_with(hub, tmp_path, model_dir=checkpoint)
    assert ours.weights()[NAME].state is WeightsState.READY
    (tmp_path / "empty").mkdir()
    empty = worker_with(hub, tmp_path, model_dir=tmp_path / "empty")
    assert empty.weights()[NAME].state is WeightsState.MISSING


HALF_WAY = WeightsView(state=WeightsState.DOWNLOADING, bytes_done=1, bytes_total=2)
GONE = WeightsView(state=WeightsState.MISSING, message="pull them")


def test_the_gateway_shows_the_weights_of_the_worker_that_has_most(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    fake_worker.offer(MODEL, weights={"model": GONE})
    assert shown(gateway) == GONE.model_dump(mode="json")

    fake_worker.offer(MODEL, name="other", weights={"model": HALF_WAY})
    assert shown(gateway) == HALF_WAY.model_dump(mode="json")

    warned = gateway.create(model="model", prompt="it moves").json()["warnings"]
    assert "the weights of model are being downloaded, 50 % so far; the job waits" in warned

    fake_worker.offer(MODEL, weights={"model": WeightsView(state=WeightsState.READY)})
    assert shown(gateway)["state"] == "ready"


def test_a_worker_that_says_nothing_of_weights_shows_none(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    fake_worker.clear()
    fake_worker.offer(MODEL)

    assert shown(gateway) is None


def shown(gateway: Gateway) -> Any:
    models = gateway.get("/v1/models").json()["data"]
    return next(each for each in models if each["id"] == "model")["weights"]
