"""`python -m worker.weights` as a person uses it."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.errors import InvalidRequest
from shared.settings import Settings
from tests.integration.weights.conftest import TOY, UNET, get
from tests.support.checkpoints import small_i2vgen_xl  # The import makes torch use one thread.
from tests.support.weights_hub import COMMIT, WeightsHub, weights_hub
from worker.download.hub import Hub
from worker.download.manifest import read_manifest
from worker.download.repository import Repository
from worker.engines.diffusion import pull as pull_module
from worker.engines.diffusion.checkpoint import INDEX, Layout, pulled
from worker.engines.wan.checkpoint import LAYOUT as WAN
from worker.engines.wan.tiny import tiny_wan
from worker.weights import catalogue, commands
from worker.weights.__main__ import main

ONE_THREAD = small_i2vgen_xl
KNOWN = {TOY.name: TOY}
"""The toy is the only engine whose weights are known."""


@pytest.fixture
def named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Set the settings in the environment, as a shell does."""
    monkeypatch.setenv("STILLREEL_HF_ENDPOINT", str(settings.hf_endpoint))
    monkeypatch.setenv("STILLREEL_WEIGHTS_DIR", str(settings.weights_dir))
    monkeypatch.setenv("STILLREEL_MIN_FREE_BYTES", "0")
    return settings


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main(arguments, KNOWN)
    return status, capsys.readouterr().out


def test_pull_list_verify_and_remove(
    named: Settings, hub: WeightsHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "toy          missing" in run(capsys, "list")[1]
    status, said = run(capsys, "pull", "toy")
    assert (status, "toy: complete, 350.1 kB on the disk" in said) == (0, True), said
    assert "toy          ready, 350.1 kB; from maker/toy at aaaaaaaaaaaa" in run(capsys, "list")[1]
    assert run(capsys, "verify") == (0, "toy: 6 files are as they were downloaded\n")

    hub.forget()
    assert run(capsys, "pull", "toy")[0] == 0
    assert hub.asked == []

    status, said = run(capsys, "remove", "toy")
    assert (status, "toy: removed, 35" in said) == (0, True), said
    assert not (named.weights_folder / "toy").exists()


def test_verify_finds_a_byte_flipped_later_and_pull_mends_that_file(
    named: Settings, hub: WeightsHub, capsys: pytest.CaptureFixture[str]
) -> None:
    get(named)
    place = named.weights_folder / "toy" / UNET
    content = bytearray(place.read_bytes())
    content[1000] ^= 1
    place.write_bytes(content)

    status, said = run(capsys, "verify", "toy")

    assert status == 1
    assert f"toy: {UNET} has changed: its sha256 is " in said
    assert pulled(TOY, named) is None, "damaged weights are not rendered with"
    hub.forget()
    assert run(capsys, "pull", "toy")[0] == 0
    assert hub.files_given == {UNET}
    assert run(capsys, "verify", "toy")[0] == 0


def test_a_listing_shows_how_far_a_cut_download_is(
    named: Settings, hub: WeightsHub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.faults.cut_after[UNET] = [150_000, *[0] * 9]
    source = Hub(named, pauses=())
    with pytest.raises(Exception, match="the downloaded part is kept"):
        pull_module.pull(TOY, named, lambda fraction, what: None, source)

    said = run(capsys, "list")[1]

    assert "toy          missing, " in said
    assert "% of 350.1 kB" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pull", "ltx"), "no weights of ltx are known; there are those of toy"),
        (("remove", "../toy"), "no weights of ../toy are known"),
        (("remove", "toy"), "nothing of it is in"),
        (("verify", "toy"), "not here: python -m worker.weights pull toy"),
        (("tiny", "ltx", "x"), "there is no small checkpoint of ltx"),
    ],
)
def test_what_cannot_be_done_is_said(
    named: Settings, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    status, told = run(capsys, *arguments)

    assert (status, said in told) == (1, True), told


def test_a_folder_that_pull_did_not_make_is_not_removed(
    named: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    place = named.weights_folder / "toy" / "unet" / "mine.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"mine")

    status, said = run(capsys, "remove", "toy")

    assert (status, "so remove it by hand" in said) == (1, True)
    assert place.exists()


def test_a_small_checkpoint_needs_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(InvalidRequest, match="must be empty or new"):
        commands.tiny("svd", str(tmp_path))


@pytest.mark.parametrize("engine", sorted(catalogue.TINY))
def test_a_small_checkpoint_loads_as_the_real_one_and_says_what_it_is(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from worker.engines import build, chosen

    assert commands.tiny(engine, str(tmp_path / "small")) == 0
    assert "its clips are noise" in capsys.readouterr().out.replace("\n", " ")
    built: Any = build(
        chosen(engine, has_gpu=True)[engine],
        Settings(_env_file=None, model_dir=tmp_path / "small"),
    )
    built.load("cpu", lambda fraction, what: None)
    assert built.model is not None


def test_every_engine_with_weights_has_a_small_checkpoint() -> None:
    assert set(catalogue.LAYOUTS) == set(catalogue.TINY)


@pytest.fixture
def wan_hub(tmp_path: Path) -> Iterator[WeightsHub]:
    with weights_hub() as hub:
        hub.repositories[WAN.hub_id] = tiny_wan(tmp_path / "published")
        yield hub


def test_float32_transformers_are_kept_in_half_the_bytes_and_are_the_same_on_a_card(
    tmp_path: Path, wan_hub: WeightsHub
) -> None:
    """A card loads exactly the same bits from the rewritten file as from the published file."""
    from diffusers import WanTransformer3DModel

    published = wan_hub.repositories[WAN.hub_id] / "transformer"
    settings = Settings(
        _env_file=None, hf_endpoint=wan_hub.url, weights_dir=tmp_path / "weights", min_free_bytes=0
    )
    manifest = get(settings, layout=WAN)
    kept = settings.weights_folder / "wan" / "transformer"

    name = "transformer/diffusion_pytorch_model.safetensors"
    assert manifest.files[name].converted == "bfloat16"
    assert manifest.files[name].size < manifest.files[name].source_size
    assert manifest.files["vae/diffusion_pytorch_model.safetensors"].converted is None
    weights = load_file(kept / "diffusion_pytorch_model.safetensors")
    assert weights["blocks.0.attn1.to_q.weight"].dtype is torch.bfloat16
    assert dict(manifest.faults(settings.weights_folder / "wan")) == {}
    assert tuple(WanTransformer3DModel._keep_in_fp32_modules) == WAN.in_float32
    before, after = (
        WanTransformer3DModel.from_pretrained(
            folder, torch_dtype=torch.bfloat16, use_safetensors=True
        ).state_dict()
        for folder in (published, kept)
    )
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(before[key].dtype is after[key].dtype for key in before)

    wan_hub.forget()
    get(settings, layout=WAN)
    assert wan_hub.given == {}, "what was rewritten is not fetched again"


def test_three_repositories_make_one_folder(tmp_path: Path, hub: WeightsHub) -> None:
    """AnimateDiff's base has folders; the motion module and SparseCtrl have none."""
    base = hub.repositories["maker/toy"]
    for name in ("motion", "control"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"of": name}))
        weights = {"w": torch.full((4,), float(len(name)))}
        save_file(weights, folder / "diffusion_pytorch_model.fp16.safetensors")
        save_file(weights, folder / "diffusion_pytorch_model.safetensors")
        (folder / "README.md").write_text("a part")
        hub.repositories[f"other/{name}"] = folder
    layout = Layout(
        name="pieced",
        pipelines=("Pieced",),
        hub_id="maker/toy",
        revision="c" * 40,
        modelscope_id=None,
        weighted=("unet", "vae", "motion_adapter", "controlnet"),
        plain=MappingProxyType({}),
        weight_files="*.fp16.safetensors",
        beside=(
            Repository("other/motion", "main", into="motion_adapter"),
            Repository("other/control", "main", into="controlnet"),
        ),
        index={"_class_name": "Pieced"},
    )
    settings = Settings(
        _env_file=None, hf_endpoint=hub.url, weights_dir=tmp_path / "weights", min_free_bytes=0
    )

    manifest = get(settings, layout=layout)

    folder = settings.weights_folder / "pieced"
    assert json.loads((folder / INDEX).read_text()) == {"_class_name": "Pieced"}
    assert json.loads((folder / "motion_adapter/config.json").read_text()) == {"of": "motion"}
    assert load_file(folder / "controlnet/diffusion_pytorch_model.fp16.safetensors")["w"][0] == 7
    assert (folder / UNET).read_bytes() == (base / UNET).read_bytes()
    assert [(each.repository, each.commit) for each in manifest.origins] == [
        ("maker/toy", "c" * 40),
        ("other/motion", COMMIT),
        ("other/control", COMMIT),
    ]
    assert pulled(layout, settings) is not None
    assert dict(manifest.faults(folder)) == {}
    held = read_manifest(folder)
    assert held is not None
    assert INDEX in held.files
