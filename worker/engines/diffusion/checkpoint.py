"""The folder of safetensors that a model is read from: a local one, or a downloaded one."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shared.errors import MissingWeights
from shared.settings import Settings
from worker.download.manifest import Manifest
from worker.download.pull import whole
from worker.download.repository import Repository
from worker.engines.base import OnProgress

PICKLES: Final = frozenset({".bin", ".pt", ".pth", ".pkl", ".ckpt"})
INDEX: Final = "model_index.json"


@dataclass(frozen=True)
class Layout:
    """The origin of an engine's checkpoint, and the required content of its folder.

    `weighted` parts are a config.json and safetensors; `optional` parts are required only if
    model_index.json names them; of a `plain` part one of the files must exist. `pipelines` are the
    classes that model_index.json may name. `beside` are repositories that bring one part each, and
    `index` is the content of the folder's model_index.json if no repository has it. Float32
    weights of the parts `to_bf16` are stored in bfloat16, except those whose dotted name contains
    one of `in_float32`.
    """

    name: str
    pipelines: tuple[str, ...]
    hub_id: str
    revision: str
    modelscope_id: str | None
    weighted: tuple[str, ...]
    plain: Mapping[str, tuple[str, ...]]
    optional: tuple[str, ...] = ()
    weight_files: str = "*.safetensors"
    beside: tuple[Repository, ...] = ()
    index: Mapping[str, Any] | None = None
    to_bf16: tuple[str, ...] = ()
    in_float32: tuple[str, ...] = ()

    @property
    def prefers_half(self) -> bool:
        """Say whether fp16 files are preferred if they exist."""
        return ".fp16" in self.weight_files

    @property
    def repositories(self) -> tuple[Repository, ...]:
        return (Repository(self.hub_id, self.revision, self.modelscope_id), *self.beside)


@dataclass(frozen=True)
class Checkpoint:
    """A checked folder; every part in it exists and is safetensors."""

    folder: Path

    def part(self, name: str) -> Path:
        return self.folder / name

    def variant(self, name: str) -> str | None:
        """Return "fp16" if the part has such a file, so that hub and folder give the same clip."""
        halves = any(".fp16" in path.name for path in self.part(name).glob("*.safetensors"))
        return "fp16" if halves else None

    @property
    def index(self) -> Mapping[str, Any]:
        return read_index(self.folder)


def revision(layout: Layout, settings: Settings) -> str:
    """Return the name of the weights: the pinned commit, or the origin of unpinned ones."""
    if settings.model_dir is not None:
        return "local"
    held = pulled(layout, settings)
    if held is not None and held.origins and not held.origins[0].commit:
        return f"{held.origins[0].source}-{held.fingerprint}"
    return "modelscope" if settings.model_source == "modelscope" else layout.revision


def pulled(layout: Layout, settings: Settings) -> Manifest | None:
    """Return this engine's manifest in the weights folder, None unless it is complete; quick."""
    return whole(settings.weights_folder / layout.name, layout.repositories)


def find(layout: Layout, settings: Settings, on_progress: OnProgress) -> Checkpoint:
    """Return the checkpoint of the settings, downloaded if necessary and allowed.

    Raises:
        MissingWeights: it does not exist, is not complete, or is not safetensors.
    """
    if settings.model_dir is not None:
        folder = local_folder(layout.name, settings.model_dir)
        if folder is None:
            raise MissingWeights(
                f"STILLREEL_MODEL_DIR holds no {layout.name} checkpoint: it, or the folder"
                f" {layout.name} in it, must have a {INDEX}; unset it to download the weights"
            )
        return _checked(layout, folder)
    if pulled(layout, settings) is None:
        from worker.engines.diffusion.pull import may_download, pull

        if not may_download(settings):
            raise MissingWeights(
                f"the weights of {layout.name} are not complete on this worker, and it may not"
                f" download them: run `python -m worker.weights pull {layout.name}`, set"
                " STILLREEL_DOWNLOAD_WEIGHTS to 1 and HF_HUB_OFFLINE to 0, or"
                " STILLREEL_MODEL_DIR to a folder of weights"
            )
        pull(layout, settings, on_progress)
    return _checked(layout, settings.weights_folder / layout.name)


def local_folder(name: str, model_dir: Path) -> Path | None:
    """Return the folder with the engine's name, else the folder itself, if it is a checkpoint."""
    folders = (model_dir / name, model_dir)
    return next((each for each in folders if (each / INDEX).is_file()), None)


def read_index(folder: Path) -> Mapping[str, Any]:
    """Return model_index.json; nothing if it cannot be read."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return index if isinstance(index, dict) else {}


def names_part(index: Mapping[str, Any], part: str) -> bool:
    """Say whether the pipeline of this index has the part, and not null in its place."""
    named = index.get(part)
    return isinstance(named, list) and any(named)


def _checked(layout: Layout, folder: Path) -> Checkpoint:
    for fault in _faults(layout, folder):
        raise MissingWeights(fault)
    return Checkpoint(folder)


def _faults(layout: Layout, folder: Path) -> Iterator[str]:
    """Yield the faults of a checkpoint, the plainest first."""
    index = read_index(folder)
    kind = str(index.get("_class_name")) if index else f"an unreadable kind ({INDEX})"
    if kind not in layout.pipelines:
        wanted = " or ".join(layout.pipelines)
        yield f"the checkpoint is of {kind}, and {layout.name} needs one of {wanted}"
    if any(folder.glob("*.py")) or any(folder.glob("*/*.py")):
        yield "the checkpoint brings code of its own (*.py), which is never run: remove it"
    named = (part for part in layout.optional if names_part(index, part))
    for part in (*layout.weighted, *named):
        yield from _weighted_faults(folder, part)
    for part, choices in layout.plain.items():
        if not any((folder / part / name).is_file() for name in choices):
            yield f"the checkpoint has no {part}/{choices[-1]}"


def _weighted_faults(folder: Path, part: str) -> Iterator[str]:
    names = {path.name for path in (folder / part).glob("*") if path.is_file()}
    if any(name.endswith(".safetensors") for name in names) and "config.json" in names:
        return
    if pickles := sorted(name for name in names if Path(name).suffix in PICKLES):
        yield (
            f"{part} is there only as {pickles[0]}, a format that can run code when opened:"
            " get the checkpoint as safetensors"
        )
    yield f"the checkpoint has no {part}: config.json and a .safetensors file are needed"
