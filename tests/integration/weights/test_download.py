"""Weights arrive whole, once, and as listed; a sentence names each obstacle."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from shared.errors import Drained
from shared.settings import Settings
from tests.integration.weights.conftest import (
    TOY,
    UNET,
    WANTED,
    folder_of,
    get,
    make_repository,
    refused,
    settings_for,
    unheard,
)
from tests.support.processes import until
from tests.support.stack import ROOT
from tests.support.weights_hub import WeightsHub
from worker.download.manifest import read_manifest
from worker.engines.diffusion.checkpoint import find, pulled, revision


def test_only_what_is_wanted_arrives_as_it_is_there(
    settings: Settings, hub: WeightsHub, repository: Path
) -> None:
    get(settings)

    assert hub.files_given == WANTED
    for name in WANTED:
        assert (folder_of(settings) / name).read_bytes() == (repository / name).read_bytes()
    assert list(folder_of(settings).rglob("*.part")) == []


def test_the_manifest_says_where_each_file_is_from_and_its_hash(
    settings: Settings, repository: Path
) -> None:
    manifest = get(settings)

    assert manifest == read_manifest(folder_of(settings))
    assert manifest.is_whole
    assert [each.commit for each in manifest.origins] == [TOY.revision]
    found = {path: kept.sha256 for path, kept in manifest.files.items()}
    expected = {
        name: hashlib.sha256((repository / name).read_bytes()).hexdigest() for name in WANTED
    }
    assert found == expected


def test_what_is_whole_asks_nobody(settings: Settings, hub: WeightsHub) -> None:
    get(settings)
    hub.forget()

    find(TOY, settings, unheard)
    dead = settings.model_copy(update={"hf_endpoint": "http://127.0.0.1:9"})
    find(TOY, dead, unheard)

    assert hub.asked == []


def test_a_lost_file_alone_is_fetched_again(settings: Settings, hub: WeightsHub) -> None:
    get(settings)
    (folder_of(settings) / "vae/config.json").unlink()
    hub.forget()

    assert pulled(TOY, settings) is None
    get(settings)

    assert hub.files_given == {"vae/config.json"}
    assert pulled(TOY, settings) is not None


def test_a_new_pin_fetches_what_changed_and_removes_what_went(
    settings: Settings, hub: WeightsHub, repository: Path
) -> None:
    get(settings)
    newer = replace(TOY, revision="b" * 40)
    (repository / "vae/config.json").write_text('{"layers": 3}')
    (folder_of(settings) / "unet/left_over.safetensors").write_bytes(b"of an older one")
    hub.forget()

    assert pulled(newer, settings) is None
    get(settings, layout=newer)

    assert hub.files_given == {"vae/config.json"}
    assert not (folder_of(settings) / "unet/left_over.safetensors").exists()
    assert pulled(newer, settings) is not None


def test_a_token_that_has_not_accepted_is_told_so(
    tmp_path: Path, hub: WeightsHub, caplog: pytest.LogCaptureFixture
) -> None:
    hub.faults.gated, hub.faults.token = True, "hf_right"

    said = refused(settings_for(hub, tmp_path, hf_token="hf_another"))

    assert (
        "accept the licence on https://huggingface.co/maker/toy with the token's account" in said
    )
    assert "hf_another" not in said + caplog.text


@pytest.mark.parametrize("way", ["setting", "environment", "secret file"])
def test_a_token_opens_what_is_gated_and_goes_to_the_hub_alone(
    way: str, tmp_path: Path, hub: WeightsHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.faults.gated, hub.faults.token = True, "hf_right"
    changed = {}
    if way == "setting":
        changed = {"hf_token": "hf_right"}
    elif way == "environment":
        monkeypatch.setenv("HF_TOKEN", "hf_right")
    else:
        (tmp_path / "hf_token").write_text("hf_right\n")
        monkeypatch.setenv("STILLREEL_SECRETS_DIR", str(tmp_path))

    assert get(settings_for(hub, tmp_path, **changed)).is_whole
    assert hub.tokens == {"127.0.0.1": {"Bearer hf_right"}, "127.0.0.2": {""}}


def test_a_long_list_is_read_to_its_end_and_another_host_gets_no_token(
    tmp_path: Path, hub: WeightsHub
) -> None:
    hub.faults.paged = True

    manifest = get(settings_for(hub, tmp_path, hf_token="hf_right"))

    assert set(manifest.files) == WANTED
    assert hub.tokens == {"127.0.0.1": {"Bearer hf_right"}, "127.0.0.2": {""}}


@pytest.mark.parametrize("ignores_ranges", [False, True])
def test_a_cut_connection_is_gone_on_with(
    settings: Settings, hub: WeightsHub, repository: Path, ignores_ranges: bool
) -> None:
    hub.faults.cut_after[UNET] = [100_000, 90_000] if not ignores_ranges else [100_000, 200_000]
    hub.faults.ignores_ranges = ignores_ranges

    get(settings)

    assert (folder_of(settings) / UNET).read_bytes() == (repository / UNET).read_bytes()
    if not ignores_ranges:
        assert hub.given[UNET] == (repository / UNET).stat().st_size


def test_a_connection_that_brings_nothing_more_is_given_up(
    settings: Settings, hub: WeightsHub
) -> None:
    hub.faults.cut_after[UNET] = [100_000, *[0] * 9]

    assert "broke the connection too often; the downloaded part is kept" in refused(settings)

    hub.faults.cut_after.clear()
    hub.forget()
    get(settings)
    assert hub.given[UNET] == 200_000


def test_half_a_file_with_an_honest_length_is_no_file(settings: Settings, hub: WeightsHub) -> None:
    hub.faults.short[UNET] = 1000

    assert "broke the connection too often" in refused(settings)
    assert not (folder_of(settings) / UNET).exists()


@pytest.mark.parametrize("name", [UNET, "unet/config.json"], ids=["by sha256", "by git's hash"])
def test_wrong_bytes_of_the_right_size_are_fetched_again_once(
    settings: Settings, hub: WeightsHub, repository: Path, name: str
) -> None:
    hub.faults.wrong[name] = 1
    get(settings)
    assert (folder_of(settings) / name).read_bytes() == (repository / name).read_bytes()

    shutil.rmtree(folder_of(settings))
    hub.faults.wrong[name] = 2
    said = refused(settings)
    assert f"sent other bytes than it lists for {name}, twice" in said
    assert "set STILLREEL_HF_ENDPOINT to another mirror" in said
    assert not (folder_of(settings) / name).exists()


def test_killed_at_70_percent_30_percent_is_fetched(tmp_path: Path, hub: WeightsHub) -> None:
    whole, held = 10 * 2**20, 7 * 2**20
    make_repository(hub.repositories["maker/toy"], unet_bytes=whole)
    hub.faults.hold_after = held
    settings = settings_for(hub, tmp_path)
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.integration.weights.conftest import get\n"
        "from shared.settings import Settings\n"
        "get(Settings(_env_file=None, hf_endpoint=sys.argv[1], weights_dir=Path(sys.argv[2]),"
        " min_free_bytes=0))\n"
    )
    pulling = subprocess.Popen(
        [sys.executable, "-c", script, hub.url, str(settings.weights_folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        until(lambda: arrived(settings) >= held, "70 % are on the disk", within=60)
    finally:
        pulling.send_signal(signal.SIGKILL)
        pulling.wait(timeout=30)
    hub.faults.hold_after = None
    hub.go.set()

    get(settings)

    first, *later = hub.starts[UNET]
    assert first == 0
    # A slow machine may cause another request, but none begins before the bytes that are there.
    assert later[0] == held
    assert later == sorted(later)
    assert pulled(TOY, settings) is not None


def arrived(settings: Settings) -> int:
    parts = folder_of(settings).glob("unet/.*.part")
    return max((part.stat().st_size for part in parts), default=0)


def test_a_note_that_was_lost_costs_no_second_download(
    settings: Settings, hub: WeightsHub
) -> None:
    get(settings)
    (folder_of(settings) / "weights.json").write_text("")
    hub.forget()

    assert get(settings).is_whole
    assert hub.given == {}


@pytest.mark.parametrize("fault", ["own_redirect", "xet"])
def test_mirrors_that_the_library_cannot_read_serve(
    settings: Settings, hub: WeightsHub, fault: str
) -> None:
    setattr(hub.faults, fault, True)

    assert get(settings).is_whole


def test_a_part_without_half_precision_files_is_taken_whole(
    settings: Settings, hub: WeightsHub, repository: Path
) -> None:
    half = repository / "vae/diffusion_pytorch_model.fp16.safetensors"
    half.rename(half.with_name("diffusion_pytorch_model.safetensors"))

    get(settings)

    assert "vae/diffusion_pytorch_model.safetensors" in hub.files_given
    assert UNET in hub.files_given
    assert "unet/diffusion_pytorch_model.safetensors" not in hub.files_given


def test_progress_is_told_by_bytes(settings: Settings, hub: WeightsHub) -> None:
    hub.faults.hold_after = 2**17
    told: list[tuple[float, str]] = []

    def note(fraction: float, what: str) -> None:
        told.append((fraction, what))
        if fraction > 0.3:
            hub.go.set()

    get(settings, note)

    assert any(0.3 < fraction < 1 for fraction, _ in told)
    assert told[-1][1] == "downloading 350.1 kB of weights"


def test_a_download_stops_when_its_owner_does_and_keeps_what_came(
    settings: Settings, hub: WeightsHub
) -> None:
    whole, held, some = 10 * 2**20, 7 * 2**20, 2**20
    make_repository(hub.repositories["maker/toy"], unet_bytes=whole)
    hub.faults.hold_after = held

    def drain(fraction: float, what: str) -> None:
        if arrived(settings) >= some:
            hub.faults.hold_after = None
            # By then the download has been told to stop.
            threading.Timer(0.5, hub.go.set).start()
            raise Drained("stopping")

    with pytest.raises(Drained):
        get(settings, drain)
    assert pulled(TOY, settings) is None
    assert some <= arrived(settings) < whole

    get(settings)
    assert hub.starts[UNET][-1] >= some
    assert pulled(TOY, settings) is not None


def test_bytes_that_the_hubs_own_programs_have_are_taken(
    settings: Settings, hub: WeightsHub, repository: Path, tmp_path: Path
) -> None:
    content = (repository / UNET).read_bytes()
    blobs = tmp_path / "hub-cache" / "models--maker--toy" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / hashlib.sha256(content).hexdigest()).write_bytes(content)

    get(settings)

    assert UNET not in hub.files_given
    assert (folder_of(settings) / UNET).read_bytes() == content


def test_two_processes_fetch_once(tmp_path: Path, settings: Settings, hub: WeightsHub) -> None:
    from concurrent.futures import ThreadPoolExecutor

    hub.faults.hold_after = 2**17
    said: list[str] = []

    def note(fraction: float, what: str) -> None:
        said.append(what)
        if any("another process" in each for each in said):
            hub.go.set()

    with ThreadPoolExecutor(2) as pool:
        pulls = [pool.submit(get, settings, note) for _ in range(2)]
        assert all(each.result(timeout=60).is_whole for each in pulls)

    assert hub.bytes_given == sum(
        (hub.repositories["maker/toy"] / name).stat().st_size for name in WANTED
    )


def test_modelscope_and_the_hub_give_equal_folders(
    tmp_path: Path, hub: WeightsHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.url)
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-token")
    theirs = settings_for(hub, tmp_path, model_source="modelscope", weights_dir=tmp_path / "ms")
    ours = settings_for(hub, tmp_path)
    get(theirs)
    assert hub.tokens["127.0.0.1"] == {"Bearer ms-token"}
    get(ours)

    for name in WANTED:
        assert (folder_of(theirs) / name).read_bytes() == (folder_of(ours) / name).read_bytes()
    assert revision(TOY, ours) == TOY.revision
    assert revision(TOY, theirs).startswith("modelscope-")


def test_modelscope_is_checked_as_the_hub_is(
    tmp_path: Path, hub: WeightsHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.url)
    settings = settings_for(hub, tmp_path, model_source="modelscope")
    hub.faults.wrong[UNET] = 2

    said = refused(settings)

    assert "sent other bytes than it lists" in said
    assert "set STILLREEL_MODEL_SOURCE to huggingface" in said
