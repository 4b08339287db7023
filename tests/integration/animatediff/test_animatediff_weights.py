"""A checkpoint of AnimateDiff matches its configs, or a sentence says why it is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from diffusers import AnimateDiffSparseControlNetPipeline
from safetensors.torch import load_file, save_file

from shared.errors import MissingWeights
from tests.support.small_models import FAMILIES, loaded, over, rendered
from tests.support.spoiled_folders import (
    Spoil,
    changed,
    lose_a_weight,
    only_as_a_pickle,
    weights_of,
)
from worker.engines.animatediff.engine import AnimateDiffEngine
from worker.engines.animatediff.tiny import tiny_animatediff


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_animatediff(tmp_path_factory.mktemp("whole"))


def motion_of_fewer_frames(folder: Path) -> None:
    changed("motion_adapter/config.json", motion_max_seq_length=24)(folder)
    path = weights_of(folder, "motion_adapter")
    weights = load_file(path)
    cut = {name: each[:, :24].clone() for name, each in weights.items() if name.endswith(".pe")}
    save_file({**weights, **cut}, path, metadata={"format": "pt"})


SPOILED: dict[str, tuple[Spoil, str]] = {
    "another pipeline": (
        changed("model_index.json", _class_name="AnimateDiffPipeline"),
        "is of AnimateDiffPipeline, and animatediff needs",
    ),
    "no SparseCtrl": (
        lambda folder: shutil.rmtree(folder / "controlnet"),
        "has no controlnet",
    ),
    "no motion modules": (
        lambda folder: shutil.rmtree(folder / "motion_adapter"),
        "has no motion_adapter",
    ),
    "a pickle": (only_as_a_pickle("motion_adapter"), "motion_adapter is there only as .*bin"),
    "code of its own": (
        lambda folder: (folder / "unet" / "mine.py").write_text("1"),
        "brings code of its own",
    ),
    "a lost weight of motion": (
        lose_a_weight("motion_adapter"),
        "motion_adapter lacks 1 of its weights",
    ),
    "a lost weight of control": (lose_a_weight("controlnet"), "controlnet lacks 1 of its weights"),
    "fewer text layers": (
        changed("text_encoder/config.json", num_hidden_layers=1),
        "text_encoder has .* no place for",
    ),
    "a word for a number": (
        changed("unet/config.json", layers_per_block="two"),
        "unet cannot be read",
    ),
    "motion of another size": (
        changed("motion_adapter/config.json", motion_layers_per_block=2),
        "motion_adapter lacks",
    ),
    "sketches": (
        changed("controlnet/config.json", use_simplified_condition_embedding=False),
        "controlnet",
    ),
    "texts of another width": (
        changed("controlnet/config.json", cross_attention_dim=32),
        "controlnet .*config.json",
    ),
    "fewer frames": (
        motion_of_fewer_frames,
        "unet's motion modules were taught 24 frames, and animatediff makes up to 32",
    ),
    "no tokenizer": (
        lambda folder: shutil.rmtree(folder / "tokenizer"),
        "has no tokenizer/vocab.json",
    ),
}


@pytest.mark.parametrize(("spoil", "said"), SPOILED.values(), ids=SPOILED)
def test_a_spoiled_checkpoint_is_refused_with_its_fault(
    whole: Path, tmp_path: Path, spoil: Spoil, said: str
) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "animatediff"))
    spoil(folder)

    with pytest.raises(MissingWeights, match=said):
        loaded(over(AnimateDiffEngine, tmp_path))


def test_a_folder_that_diffusers_saved_itself_gives_the_same_clip(
    whole: Path, tmp_path: Path
) -> None:
    """`save_pretrained` writes the motion modules into the unet's folder."""
    saved = tmp_path / "saved"
    AnimateDiffSparseControlNetPipeline.from_pretrained(whole).save_pretrained(saved)
    family = FAMILIES["animatediff"]

    clips = [rendered(family.loaded(each), family.brief()) for each in (whole, saved)]

    assert json.loads((saved / "unet/config.json").read_text())["_class_name"] == "UNetMotionModel"
    assert np.array_equal(clips[0], clips[1])
