"""The folder of safetensors the model is read from: a local one, the hub's or ModelScope's."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Final

from shared.errors import MissingWeights
from shared.settings import Settings
from worker.engines.base import OnProgress
from worker.engines.i2vgen.download import download

NAME: Final = "i2vgen-xl"
HUB_ID: Final = "ali-vilab/i2vgen-xl"
# The commit that independent users' caches of the repository name, from 2024 to August 2026; it
# was read in their public notes, not asked of the hub itself.
REVISION: Final = "39e1979ea27be737b0278c06755e321f2b4360d5"
# The authors' own repository there. A copy without the diffusers parts is refused by name.
MODELSCOPE_ID: Final = "iic/i2vgen-xl"

WEIGHTED: Final = ("text_encoder", "image_encoder", "vae", "unet")
PLAIN: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "tokenizer": ("tokenizer.json", "vocab.json"),
        "feature_extractor": ("preprocessor_config.json",),
        "scheduler": ("scheduler_config.json",),
    }
)
FILES: Final = (
    "model_index.json",
    *(f"{part}/*.json" for part in (*WEIGHTED, *PLAIN)),
    "tokenizer/*.txt",
    # The half-precision files are half the download, and what a card runs in anyway.
    *(f"{part}/*.fp16.safetensors" for part in WEIGHTED),
)
PICKLES: Final = frozenset({".bin", ".pt", ".pth", ".pkl", ".ckpt"})


@dataclass(frozen=True)
class Checkpoint:
    """A checked folder; every part in it is there and is safetensors."""

    folder: Path

    def part(self, name: str) -> Path:
        return self.folder / name

    def variant(self, name: str) -> str | None:
        """Return "fp16" where the part has such a file, so that hub and folder give one clip."""
        halves = any(".fp16" in path.name for path in self.part(name).glob("*.safetensors"))
        return "fp16" if halves else None


def revision(settings: Settings) -> str:
    """Return what names the weights: the pinned commit, or where unpinned ones come from."""
    if settings.model_dir is not None:
        return "local"
    return "modelscope" if settings.model_source == "modelscope" else REVISION


def find(settings: Settings, on_progress: OnProgress) -> Checkpoint:
    """Return the checkpoint the settings name, downloaded if it has to be.

    Raises:
        MissingWeights: it is not there, not whole, or not safetensors.
    """
    if settings.model_dir is not None:
        return _checked(_local(settings.model_dir))
    if settings.model_source == "modelscope":
        return _checked(_from_modelscope())
    return _checked(download(HUB_ID, REVISION, FILES, settings.hf_endpoint, on_progress))


def _local(model_dir: Path) -> Path:
    for folder in (model_dir, model_dir / NAME):
        if (folder / "model_index.json").is_file():
            return folder
    raise MissingWeights(
        f"STILLREEL_MODEL_DIR holds no {NAME} checkpoint: it, or the folder {NAME} in it,"
        " must have a model_index.json; unset it to download the weights"
    )


def _from_modelscope() -> Path:
    try:
        modelscope = import_module("modelscope")
    except ImportError as error:
        raise MissingWeights(
            "STILLREEL_MODEL_SOURCE is modelscope, whose library is not installed:"
            " pip install modelscope, or set STILLREEL_MODEL_DIR to a folder of weights"
        ) from error
    try:
        return Path(modelscope.snapshot_download(MODELSCOPE_ID, allow_patterns=list(FILES)))
    except (OSError, ValueError) as error:
        raise MissingWeights(
            f"ModelScope did not give {MODELSCOPE_ID}: check the network,"
            " or set STILLREEL_MODEL_DIR to a folder of weights"
        ) from error


def _checked(folder: Path) -> Checkpoint:
    for fault in _faults(folder):
        raise MissingWeights(fault)
    return Checkpoint(folder)


def _faults(folder: Path) -> Iterator[str]:
    """Yield what is wrong with a checkpoint, the plainest first."""
    kind = _kind(folder)
    if kind != "I2VGenXLPipeline":
        yield f"the checkpoint is of {kind}, and {NAME} needs one of I2VGenXLPipeline"
    if any(folder.glob("*.py")) or any(folder.glob("*/*.py")):
        yield "the checkpoint brings code of its own (*.py), which is never run: remove it"
    for part in WEIGHTED:
        names = {path.name for path in (folder / part).glob("*") if path.is_file()}
        if any(name.endswith(".safetensors") for name in names) and "config.json" in names:
            continue
        if pickles := sorted(name for name in names if Path(name).suffix in PICKLES):
            yield (
                f"{part} is there only as {pickles[0]}, a format that can run code when opened:"
                " get the checkpoint as safetensors"
            )
        yield f"the checkpoint has no {part}: config.json and a .safetensors file are needed"
    for part, choices in PLAIN.items():
        if not any((folder / part / name).is_file() for name in choices):
            yield f"the checkpoint has no {part}/{choices[-1]}"


def _kind(folder: Path) -> str:
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "an unreadable kind (model_index.json)"
    return str(index.get("_class_name"))
