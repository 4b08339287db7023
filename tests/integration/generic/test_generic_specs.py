"""The spec that is offered for a folder: the frames it honours, and the memory that it needs."""

import shutil
from pathlib import Path

import pytest

from shared.engines.gpu_memory import Footprint
from shared.engines.spec import EngineSpec, Honours
from tests.support.small_diffusers import served, small_ltx, small_wan
from tests.support.small_models import loaded, model_of
from tests.support.spoiled_folders import change_json, weights_of
from worker.engines.diffusion.parts import weight_bytes
from worker.engines.wan.tiny import tiny_wan


@pytest.fixture(scope="module")
def ltx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_ltx(tmp_path_factory.mktemp("ltx"))


@pytest.fixture
def wan(tmp_path: Path) -> Path:
    return small_wan(tmp_path)


def takes_a_last_frame(spec: EngineSpec) -> bool:
    return Honours.LAST_FRAME in spec.honours


def test_a_class_that_goes_to_a_last_frame_says_so_and_makes_no_length_that_is_cut(
    wan: Path, ltx: Path
) -> None:
    spec = served(wan).spec
    assert takes_a_last_frame(spec)
    assert [count for count in range(5, 15) if count in spec.num_frames] == [5, 9, 13]
    assert spec.defaults.num_frames in spec.num_frames
    other = served(ltx).spec
    assert not takes_a_last_frame(other)
    assert 6 in other.num_frames


def test_weights_that_would_drop_a_last_frame_are_not_offered_for_it(
    wan: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    small = tiny_wan(tmp_path_factory.mktemp("ti2v"))
    change_json(small / "model_index.json", _class_name="WanImageToVideoPipeline")
    assert not takes_a_last_frame(served(small).spec)

    # Wan 2.1 gets the first image through CLIP, and only FLF2V has positions for a second image.
    change_json(wan / "transformer" / "config.json", image_dim=1280)
    assert not takes_a_last_frame(served(wan).spec)
    change_json(wan / "transformer" / "config.json", pos_embed_seq_len=514)
    assert takes_a_last_frame(served(wan).spec)


def footprint(folder: Path) -> Footprint:
    found = served(folder).spec.footprint
    assert found is not None
    return found


def test_the_footprint_is_the_weights_as_a_card_holds_them(ltx: Path) -> None:
    engine = loaded(served(ltx))
    parts = model_of(engine).weighted
    half = {name: weight_bytes([part]) // 2 for name, part in parts.items()}

    normal, low = footprint(ltx).ways

    # The files also have a few numbers that are no weights: the mean and the spread of the
    # latents.
    assert normal.weights_bytes == pytest.approx(sum(half.values()), abs=200)
    assert low.weights_bytes == pytest.approx(half["vae"], abs=200)
    assert low.encoding_bytes == max(half["text_encoder"], half["transformer"])
    assert engine.spec.vram_bytes > footprint(ltx).fixed_bytes


def test_weights_that_lie_there_twice_and_parts_of_no_use_count_once_and_not(
    ltx: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(ltx, tmp_path / "twice"))
    weights = weights_of(folder, "transformer")
    shutil.copy(weights, weights.with_suffix(".fp16.safetensors"))
    shutil.copytree(folder / "transformer", folder / "another")
    assert footprint(folder) == footprint(ltx)


@pytest.mark.parametrize("spoilt", [b"", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0[]"])
def test_a_file_that_is_no_safetensors_is_counted_as_nothing(
    ltx: Path, tmp_path: Path, spoilt: bytes
) -> None:
    """Such a file is refused when it is loaded. Until then the engine is offered."""
    folder = Path(shutil.copytree(ltx, tmp_path / "spoilt"))
    weights = weights_of(folder, "transformer")
    weights.write_bytes(spoilt)
    assert 0 < footprint(folder).ways[0].weights_bytes < footprint(ltx).ways[0].weights_bytes
