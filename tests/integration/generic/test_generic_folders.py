"""A folder that cannot serve jobs is refused with a sentence when it is loaded."""

import shutil
from pathlib import Path

import pytest

from shared.errors import MissingWeights
from tests.support.small_diffusers import served, small_ltx
from tests.support.small_models import loaded
from tests.support.spoiled_folders import (
    Spoil,
    changed,
    lose_a_weight,
    only_as_a_pickle,
    weights_of,
)
from worker.engines.diffusion.tiny import write_json

CLASSES = {
    "HeliosPipeline": "gives fewer frames than it is asked for",
    "ChronoEditPipeline": "gives fewer frames than it is asked for",
    "WanAnimatePipeline": "also needs face_video and pose_video, which no job has",
    "HunyuanVideo15ImageToVideoPipeline": "takes no callback_on_step_end",
    "I2VGenXLPipeline": "takes no callback_on_step_end",
    "WanPipeline": "takes no image: if its parts serve a class that does",
    "AnyFlowFARPipeline": "takes no image",
    "StableDiffusionImg2ImgPipeline": "takes no width and height",
    "FluxImg2ImgPipeline": "makes single images, because it takes no number of frames",
    "Cosmos2_5_PredictBasePipeline": "needs torchvision, which Stillreel does not install",
    "NoSuchPipeline": "NoSuchPipeline is not a pipeline of diffusers",
    "UNetMotionModel": "UNetMotionModel is not a pipeline of diffusers",
}


@pytest.mark.parametrize("kind", CLASSES)
def test_a_class_that_cannot_serve_jobs_is_refused_with_the_reason(
    tmp_path: Path, kind: str
) -> None:
    write_json(tmp_path / "model_index.json", {"_class_name": kind})
    # The engine is offered all the same, because its jobs are told the reason.
    engine = served(tmp_path)
    assert engine.spec.name == "small"
    with pytest.raises(MissingWeights) as refused:
        loaded(engine)
    assert CLASSES[kind] in refused.value.message


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_ltx(tmp_path_factory.mktemp("whole"))


SPOILED: dict[str, tuple[Spoil, str]] = {
    "no class": (changed("model_index.json", _class_name=None), "names a class"),
    "no index": (
        lambda folder: (folder / "model_index.json").write_text("[]"),
        "has no model_index.json that names a class",
    ),
    "code of its own": (
        lambda folder: (folder / "pipeline.py").write_text("1"),
        "brings code of its own",
    ),
    "a part of other code": (
        changed("model_index.json", transformer=["mine", "Model"]),
        "the part transformer is of mine, code that the checkpoint brings",
    ),
    "a class that is not there": (
        changed("model_index.json", transformer=["diffusers", "NoSuchModel"]),
        "the part transformer is a NoSuchModel, which the diffusers",
    ),
    "a pickle": (only_as_a_pickle("vae"), "vae is there only as .*bin"),
    "no weights": (
        lambda folder: weights_of(folder, "vae").unlink(),
        "has no vae: config.json and a .safetensors",
    ),
    "a lost weight": (lose_a_weight("transformer"), "transformer lacks 1 of its weights"),
    "fewer layers of text": (
        changed("text_encoder/config.json", d_ff=64),
        "text_encoder",
    ),
    "a part too few": (
        changed("model_index.json", vae=[None, None]),
        "has no vae, and a LTXImageToVideoPipeline needs it",
    ),
    "no tokenizer": (
        lambda folder: shutil.rmtree(folder / "tokenizer"),
        "tokenizer cannot be read",
    ),
}


@pytest.mark.parametrize(("spoil", "said"), SPOILED.values(), ids=SPOILED)
def test_a_spoiled_folder_is_refused_with_its_fault(
    whole: Path, tmp_path: Path, spoil: Spoil, said: str
) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "ltx"))
    spoil(folder)
    with pytest.raises(MissingWeights, match=said):
        loaded(served(folder))
