"""Each obstacle to weights is named in a sentence, together with its remedy."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.errors import MissingWeights
from shared.settings import Settings
from tests.integration.weights.conftest import (
    TOY,
    UNET,
    folder_of,
    get,
    refused,
    settings_for,
    unheard,
)
from tests.support.weights_hub import WeightsHub
from worker.engines.diffusion.checkpoint import find


def test_a_dead_hub_says_what_to_check(settings: Settings) -> None:
    said = refused(settings.model_copy(update={"hf_endpoint": "http://127.0.0.1:9"}))

    assert "the mirror http://127.0.0.1:9 did not answer" in said
    assert "set STILLREEL_HF_ENDPOINT to another mirror" in said
    assert "STILLREEL_MODEL_DIR to a folder of weights" in said


def test_a_part_of_a_download_and_a_dead_hub_is_the_same_sentence(
    settings: Settings, hub: WeightsHub
) -> None:
    get(settings)
    (folder_of(settings) / UNET).unlink()

    said = refused(settings.model_copy(update={"hf_endpoint": "http://127.0.0.1:9"}))

    assert "did not answer" in said
    assert (folder_of(settings) / "vae/config.json").exists()


def test_a_gated_repository_names_the_page_and_where_the_token_goes(
    settings: Settings, hub: WeightsHub
) -> None:
    hub.faults.gated = True

    said = refused(settings)

    assert "accept it on https://huggingface.co/maker/toy" in said
    assert "put it into HF_TOKEN, or into the file hf_token" in said


def test_room_is_looked_for_before_the_first_byte(
    settings: Settings, hub: WeightsHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 100_000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, free))

    said = refused(settings)

    assert "100.0 kB that are free" in said
    assert "take 350.1 kB more" in said
    assert "250.1 kB are missing" in said
    assert "STILLREEL_WEIGHTS_DIR to a folder on a larger disk" in said
    assert hub.given == {}


def test_a_disk_that_fills_up_meanwhile_is_told_and_nothing_is_lost(
    settings: Settings, hub: WeightsHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "the disk was full before the weights of toy were complete" in refused(settings)

    monkeypatch.setattr(os, "fsync", real)
    assert get(settings).is_whole


def test_weights_that_somebody_put_there_are_left_as_they_are(
    settings: Settings, hub: WeightsHub
) -> None:
    mine = folder_of(settings) / UNET
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine" * 75_000)

    assert "has weights that no pull put there, and is left as it is" in refused(settings)
    assert mine.read_bytes() == b"mine" * 75_000
    assert hub.asked == []


def test_a_folder_that_cannot_be_written_is_told(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("a file in the way")

    assert "cannot be written" in refused(settings)


MIRRORS: dict[str, tuple[Callable[[WeightsHub], None], str]] = {
    "a page in place of the list": (
        lambda hub: setattr(hub.faults, "no_tree", True),
        "answered with HTTP 200|sent no list of its files",
    ),
    "bad gateway": (lambda hub: setattr(hub.faults, "status", 502), "did not answer"),
    "a teapot": (lambda hub: setattr(hub.faults, "status", 418), "answered with HTTP 418"),
    "no such model": (lambda hub: hub.repositories.clear(), "does not have it"),
}


@pytest.mark.parametrize(("break_it", "said"), MIRRORS.values(), ids=MIRRORS)
def test_a_broken_mirror_says_what_to_set(
    settings: Settings, hub: WeightsHub, break_it: Callable[[WeightsHub], None], said: str
) -> None:
    break_it(hub)

    with pytest.raises(MissingWeights, match=said) as caught:
        get(settings)
    assert "set STILLREEL_HF_ENDPOINT to another mirror" in caught.value.message


def test_a_part_that_is_a_pickle_only_is_refused_before_a_byte_comes(
    settings: Settings, hub: WeightsHub, repository: Path
) -> None:
    for path in repository.glob("unet/*.safetensors"):
        path.unlink()

    assert "has unet only as diffusion_pytorch_model.bin, a format that can run" in refused(
        settings
    )
    assert hub.given == {}


def test_what_may_not_be_downloaded_says_how_to_get_it(
    tmp_path: Path, hub: WeightsHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingWeights, match=r"python -m worker\.weights pull toy"):
        find(TOY, settings_for(hub, tmp_path, download_weights=False), unheard)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingWeights, match="HF_HUB_OFFLINE to 0"):
        find(TOY, settings_for(hub, tmp_path), unheard)
    assert hub.asked == []


def test_a_proxy_that_is_none_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "nonsense://127.0.0.1:1")

    assert "the proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names cannot be used" in refused(
        settings
    )
