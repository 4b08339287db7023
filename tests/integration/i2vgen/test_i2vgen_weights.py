"""The places that weights come from, and the files that are refused as weights."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.errors import Drained, MissingWeights
from shared.settings import Settings
from tests.support.checkpoints import small_i2vgen_xl
from tests.support.weights_hub import weights_hub
from worker.engines.base import OnProgress
from worker.engines.i2vgen.checkpoint import LAYOUT
from worker.engines.i2vgen.engine import SPEC, I2VGenXLEngine


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_i2vgen_xl(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def checkpoint(whole: Path, tmp_path: Path) -> Path:
    """Return a copy of a small checkpoint, which the test may spoil."""
    return Path(shutil.copytree(whole, tmp_path / "i2vgen-xl"))


def test_the_folder_may_be_the_checkpoint_or_hold_it(checkpoint: Path) -> None:
    for model_dir in (checkpoint, checkpoint.parent):
        assert load(model_dir=model_dir).model is not None


def test_a_load_tells_how_far_it_is_part_by_part(checkpoint: Path) -> None:
    told: list[tuple[float, str]] = []
    load(lambda fraction, what: told.append((fraction, what)), model_dir=checkpoint)

    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert {f"loading {part}" for part in LAYOUT.weighted} <= {what for _, what in told}


def test_a_load_may_be_stopped_between_parts(checkpoint: Path) -> None:
    def drain(fraction: float, what: str) -> None:
        raise Drained("stopping")

    with pytest.raises(Drained):
        load(drain, model_dir=checkpoint)


def test_half_precision_files_serve_where_there_are_no_others(checkpoint: Path) -> None:
    as_halves(checkpoint)

    model = load(model_dir=checkpoint).model

    assert model is not None
    assert model.unet.dtype is torch.float32


def test_the_spec_names_the_pinned_commit_only_where_it_is_what_loads(checkpoint: Path) -> None:
    assert I2VGenXLEngine(settings()).spec == SPEC
    assert SPEC.revision == LAYOUT.revision
    assert I2VGenXLEngine(settings(model_dir=checkpoint)).spec.revision == "local"


def test_a_folder_without_a_checkpoint_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match="STILLREEL_MODEL_DIR holds no i2vgen-xl checkpoint"):
        load(model_dir=tmp_path)


SPOILED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no unet": (lambda folder: shutil.rmtree(folder / "unet"), "has no unet"),
    "no tokenizer": (lambda folder: shutil.rmtree(folder / "tokenizer"), "has no tokenizer"),
    "no config": (lambda folder: (folder / "vae/config.json").unlink(), "has no vae"),
    "another model": (
        lambda folder: (folder / "model_index.json").write_text('{"_class_name": "Other"}'),
        "is of Other",
    ),
    "unreadable index": (
        lambda folder: (folder / "model_index.json").write_text("{"),
        "unreadable kind",
    ),
    "code at the top": (lambda folder: (folder / "pipeline.py").touch(), "never run"),
    "code in a part": (lambda folder: (folder / "unet" / "model.py").touch(), "never run"),
    "damaged": (
        lambda folder: (folder / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"x" * 9),
        "unet cannot be read",
    ),
    "damaged text": (
        lambda folder: (folder / "text_encoder/model.safetensors").write_bytes(b"x" * 9),
        "text_encoder cannot be read",
    ),
    "no mean": (
        lambda folder: (folder / "feature_extractor/preprocessor_config.json").write_text("{}"),
        "no image_mean",
    ),
}


@pytest.mark.parametrize(("spoil", "said"), SPOILED.values(), ids=SPOILED)
def test_a_spoiled_checkpoint_is_refused_with_its_fault(
    checkpoint: Path, spoil: Callable[[Path], Any], said: str
) -> None:
    spoil(checkpoint)

    with pytest.raises(MissingWeights, match=said):
        load(model_dir=checkpoint)


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".pkl", ".ckpt"])
@pytest.mark.parametrize("part", LAYOUT.weighted)
def test_pickles_are_refused_as_weights(checkpoint: Path, part: str, suffix: str) -> None:
    (weights,) = (checkpoint / part).glob("*.safetensors")
    weights.rename(weights.with_suffix(suffix))

    with pytest.raises(MissingWeights, match=f"{part} is there only as .*{suffix}"):
        load(model_dir=checkpoint)


@pytest.mark.parametrize("part", LAYOUT.weighted)
def test_weights_missing_from_a_file_are_not_made_up(checkpoint: Path, part: str) -> None:
    (path,) = (checkpoint / part).glob("*.safetensors")
    weights = load_file(path)
    lost = next(name for name in sorted(weights) if name.endswith("weight"))
    save_file({k: v for k, v in weights.items() if k != lost}, path, metadata={"format": "pt"})

    with pytest.raises(MissingWeights, match=f"{part} lacks 1 of its weights"):
        load(model_dir=checkpoint)


def test_the_hubs_names_for_the_text_encoder_are_understood(checkpoint: Path) -> None:
    model = load(model_dir=checkpoint).model
    saved = load_file(checkpoint / "text_encoder" / "model.safetensors")

    assert model is not None
    torch.testing.assert_close(
        model.text_encoder.final_layer_norm.weight, saved["text_model.final_layer_norm.weight"]
    )


def test_a_mirror_serves_the_pinned_commit_and_only_what_is_needed(
    checkpoint: Path, tmp_path: Path
) -> None:
    as_halves(checkpoint)
    (checkpoint / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    (checkpoint / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"twice as large")
    (checkpoint / "README.md").write_text("a model")
    told: list[str] = []
    with weights_hub() as hub:
        hub.repositories[LAYOUT.hub_id] = checkpoint
        given: dict[str, Any] = {"hf_endpoint": hub.url, "weights_dir": tmp_path / "weights"}
        engine = load(lambda fraction, what: told.append(what), **given)
        suffixes = {Path(name).suffix for name in hub.files_given}
        assert suffixes == {".json", ".txt", ".safetensors"}
        weights = [name for name in hub.files_given if name.endswith(".safetensors")]
        assert all(".fp16." in name for name in weights)
        assert all(
            f"/resolve/{LAYOUT.revision}/" in path for path in hub.asked if "resolve" in path
        )
        hub.forget()

        assert load(**given).model is not None
        assert hub.asked == []
    assert engine.model is not None
    assert engine.spec.revision == LAYOUT.revision


def test_the_spec_needs_neither_torch_nor_diffusers() -> None:
    script = (
        "import sys; from worker.engines.i2vgen.engine import SPEC; print(SPEC.name,"
        " sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )

    assert ran.stdout.strip() == "i2vgen-xl []"


def as_halves(folder: Path) -> None:
    for path in folder.rglob("*.safetensors"):
        path.rename(path.with_name(f"{path.stem}.fp16.safetensors"))


def settings(**given: Any) -> Settings:
    return Settings(_env_file=None, **given)


def load(on_progress: OnProgress = lambda fraction, what: None, **given: Any) -> I2VGenXLEngine:
    engine = I2VGenXLEngine(settings(**given))
    engine.load("cpu", on_progress)
    return engine
