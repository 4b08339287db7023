"""A small repository of weights, and a hub on loopback that serves it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any

import pytest

from shared.errors import MissingWeights
from shared.settings import Settings
from tests.support.weights_hub import WeightsHub, weights_hub
from worker.download.hub import Hub
from worker.download.manifest import Manifest
from worker.download.modelscope import ModelScope
from worker.engines.base import OnProgress
from worker.engines.diffusion.checkpoint import Layout
from worker.engines.diffusion.pull import pull

TOY = Layout(
    name="toy",
    pipelines=("ToyPipeline",),
    hub_id="maker/toy",
    revision="a" * 40,
    modelscope_id="maker/toy",
    weighted=("unet", "vae"),
    plain=MappingProxyType({"scheduler": ("scheduler_config.json",)}),
    weight_files="*.fp16.safetensors",
)
UNET = "unet/diffusion_pytorch_model.fp16.safetensors"
WANTED = {
    *("model_index.json", "unet/config.json", "vae/config.json", UNET),
    *("vae/diffusion_pytorch_model.fp16.safetensors", "scheduler/scheduler_config.json"),
}
QUICK = (0.01, 0.01)
"""Pauses between tries."""

Puller = Callable[..., Manifest]


@pytest.fixture(autouse=True)
def no_own_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide this machine's own settings, token and cache of the hub from the tests."""
    import huggingface_hub.constants as constants

    for name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "MODELSCOPE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))


def make_repository(folder: Path, *, unet_bytes: int = 300_000) -> Path:
    """Write a repository like those of the hub, with more files than are wanted."""
    draw = Random(5)
    for name, size in {
        UNET: unet_bytes,
        "unet/diffusion_pytorch_model.safetensors": 2000,
        "unet/diffusion_pytorch_model.bin": 500,
        "vae/diffusion_pytorch_model.fp16.safetensors": 50_000,
        "toy_whole.safetensors": 900,
        "assets/deep/image.json": 70,
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw.randbytes(size))
    for name, content in {
        "model_index.json": {"_class_name": "ToyPipeline"},
        "unet/config.json": {"layers": 2},
        "vae/config.json": {"layers": 1},
        "scheduler/scheduler_config.json": {"steps": 3},
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    (folder / "README.md").write_text("a toy")
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repository")


@pytest.fixture
def hub(repository: Path) -> Iterator[WeightsHub]:
    with weights_hub() as hub:
        hub.repositories["maker/toy"] = repository
        yield hub


@pytest.fixture
def settings(tmp_path: Path, hub: WeightsHub) -> Settings:
    return settings_for(hub, tmp_path)


def settings_for(hub: WeightsHub, tmp_path: Path, **changed: Any) -> Settings:
    given = {"hf_endpoint": hub.url, "weights_dir": tmp_path / "weights", "min_free_bytes": 0}
    return Settings(_env_file=None, **{**given, **changed})


def get(
    settings: Settings,
    on_progress: OnProgress = lambda fraction, what: None,
    layout: Layout = TOY,
) -> Manifest:
    """Pull with shorter pauses than for a real hub."""
    source = (
        ModelScope(pauses=QUICK)
        if settings.model_source == "modelscope"
        else Hub(settings, pauses=QUICK)
    )
    return pull(layout, settings, on_progress, source)


def unheard(fraction: float, what: str) -> None:
    """Report to nobody."""


def folder_of(settings: Settings) -> Path:
    return settings.weights_folder / "toy"


def refused(settings: Settings) -> str:
    with pytest.raises(MissingWeights) as caught:
        get(settings)
    return caught.value.message
