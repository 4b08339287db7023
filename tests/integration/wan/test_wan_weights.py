"""A checkpoint of Wan matches its configs, or a sentence says why it is refused."""

import shutil
from pathlib import Path

import pytest

from shared.errors import MissingWeights
from tests.support.small_models import loaded, over
from tests.support.spoiled_folders import Spoil, changed, lose_a_weight
from worker.engines.wan.engine import WanEngine
from worker.engines.wan.tiny import tiny_wan


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_wan(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def two_experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_wan(tmp_path_factory.mktemp("two"), "i2v-a14b")


SPOILED: dict[str, tuple[Spoil, str]] = {
    "text to video": (changed("model_index.json", expand_timesteps=False), "text-to-video"),
    "another pipeline": (changed("model_index.json", _class_name="LTXPipeline"), "is of LTX"),
    "fewer text layers": (
        changed("text_encoder/config.json", num_layers=1),
        "text_encoder has .* no place for, encoder.block.1",
    ),
    "fewer layers": (
        changed("transformer/config.json", num_layers=1),
        "transformer has .* no place for, blocks.1",
    ),
    "more layers": (changed("transformer/config.json", num_layers=3), "transformer lacks"),
    "another width": (changed("transformer/config.json", ffn_dim=64), "transformer .*config.json"),
    "a text width": (changed("text_encoder/config.json", d_ff=64), "text_encoder .*config.json"),
    "a word for a number": (
        changed("transformer/config.json", num_layers="two"),
        "transformer cannot be read",
    ),
    "a number for a list": (changed("vae/config.json", dim_mult=3), "vae cannot be read"),
    "nothing for heads": (
        changed("transformer/config.json", num_attention_heads=0),
        "transformer",
    ),
    "a scheduler of another kind": (
        changed("scheduler/scheduler_config.json", _class_name="DDIMScheduler"),
        "scheduler is DDIMScheduler",
    ),
    "no scheduler class": (
        lambda folder: (folder / "scheduler/scheduler_config.json").write_text("[]"),
        "names no class",
    ),
    "a lost weight": (lose_a_weight("transformer"), "transformer lacks 1 of its weights"),
    "no tokenizer": (
        lambda folder: shutil.rmtree(folder / "tokenizer"),
        "has no tokenizer/tokenizer.json",
    ),
}


@pytest.mark.parametrize(("spoil", "said"), SPOILED.values(), ids=SPOILED)
def test_a_spoiled_checkpoint_is_refused_with_its_fault(
    whole: Path, tmp_path: Path, spoil: Spoil, said: str
) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "wan"))
    spoil(folder)

    with pytest.raises(MissingWeights, match=said):
        loaded(over(WanEngine, tmp_path))


@pytest.mark.parametrize("ratio", [None, 0, 1.5, "0.9"])
def test_two_experts_need_to_know_where_they_change(
    two_experts: Path, tmp_path: Path, ratio: object
) -> None:
    folder = Path(shutil.copytree(two_experts, tmp_path / "wan"))
    changed("model_index.json", boundary_ratio=ratio)(folder)

    with pytest.raises(MissingWeights, match="no boundary_ratio between 0 and 1"):
        loaded(over(WanEngine, tmp_path))


def test_a_named_second_expert_has_to_be_there(two_experts: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(two_experts, tmp_path / "wan"))
    shutil.rmtree(folder / "transformer_2")

    with pytest.raises(MissingWeights, match="has no transformer_2"):
        loaded(over(WanEngine, tmp_path))


def test_a_folder_for_all_engines_holds_each_by_its_name(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "wan")

    assert loaded(over(WanEngine, tmp_path)).model is not None
