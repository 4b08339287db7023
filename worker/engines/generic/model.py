"""The pipeline of a folder in memory, with each part read strictly."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import torch

from shared.errors import MissingWeights
from worker.engines.base import OnProgress
from worker.engines.diffusion.checkpoint import PICKLES, Checkpoint
from worker.engines.diffusion.clip_loop import whole_latents
from worker.engines.diffusion.memory import takes_turns
from worker.engines.diffusion.parts import (
    UNREADABLE,
    precision,
    read_part,
    weight_bytes,
    weighted_part,
)
from worker.engines.diffusion.seats import Seats
from worker.engines.generic.folder import Folder


@dataclass(frozen=True)
class Model:
    """The pipeline with its parts on one device; `weighted` are those with weights."""

    folder: Folder
    pipeline: Any
    weighted: Mapping[str, Any]
    seats: Seats
    device: torch.device
    dtype: torch.dtype

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """Return the only (width, height) in pixels that the class renders."""
        latents, scale = self.folder.fixed_size, self.pixels_per_latent
        return None if latents is None else (latents[0] * scale, latents[1] * scale)

    def frames_rendered(self, asked: int) -> int:
        """Return the next number of frames that the class makes."""
        names = ("vae_scale_factor_temporal", "vae_temporal_compression_ratio")
        return whole_latents(asked, self._scale(names, otherwise=1))

    @property
    def pixels_per_latent(self) -> int:
        names = ("vae_scale_factor_spatial", "vae_spatial_compression_ratio", "vae_scale_factor")
        return self._scale(names, otherwise=8)

    def _scale(self, names: tuple[str, ...], *, otherwise: int) -> int:
        """Return the class's value for its latents, under any of these names."""
        found = (getattr(self.pipeline, name, None) for name in names)
        return int(next((each for each in found if each), otherwise))


def load_model(
    folder: Folder,
    device: torch.device,
    on_progress: OnProgress,
    *,
    memory: Literal["auto", "normal", "low"],
) -> Model:
    """Return the model on `device`, in that device's precision.

    Raises:
        MissingWeights: a part cannot be read, or is not what its config says.
    """
    checkpoint, dtype = Checkpoint(folder.path), precision(device)
    _check_files(folder)
    parts: dict[str, Any] = {}
    weighted: dict[str, Any] = {}
    for number, (name, (library, kind)) in enumerate(folder.parts.items()):
        on_progress(0.9 * number / len(folder.parts), f"loading {name}")
        of_kind = _class_at(name, library, kind)
        if any(checkpoint.part(name).glob("*.safetensors")):
            parts[name] = weighted[name] = weighted_part(checkpoint, name, of_kind, dtype)
        else:
            parts[name] = _plain(name, of_kind, checkpoint)
    pipeline = _assembled(folder, parts, device)
    large = [part for name, part in weighted.items() if not name.startswith("vae")]
    turns = takes_turns(memory, device, weights_bytes=weight_bytes(list(weighted.values())))
    for name, part in weighted.items():
        if name.startswith("vae"):
            part.to(device)
    seats = Seats(large, device, one_at_a_time=turns)
    on_progress(1.0, "on the device")
    return Model(folder, pipeline, weighted, seats, device, dtype)


def _check_files(folder: Folder) -> None:
    if any(folder.path.glob("*.py")) or any(folder.path.glob("*/*.py")):
        raise MissingWeights(
            "the checkpoint brings code of its own (*.py), which is never run: remove it"
        )
    for name in folder.parts:
        files = [each for each in (folder.path / name).glob("*") if each.is_file()]
        pickles = sorted(each.name for each in files if each.suffix in PICKLES)
        if pickles and not any(each.suffix == ".safetensors" for each in files):
            raise MissingWeights(
                f"{name} is there only as {pickles[0]}, a format that can run code when opened:"
                " get the checkpoint as safetensors"
            )


def _class_at(name: str, library: str, kind: str) -> Any:
    home = import_module(library)
    # Newer libraries have one class for two classes of older checkpoints.
    found = getattr(home, kind, None) or getattr(home, kind.removesuffix("Fast"), None)
    if found is None or not hasattr(found, "from_pretrained"):
        raise MissingWeights(
            f"the part {name} is a {kind}, which the {library} of this installation does not have"
        )
    return found


def _plain(name: str, kind: Any, checkpoint: Checkpoint) -> Any:
    """Return a part without weights: a tokenizer, a scheduler, an image processor.

    Raises:
        MissingWeights: it is not complete, or needs a library that is not installed.
    """
    if hasattr(kind, "parameters"):
        raise MissingWeights(
            f"the checkpoint has no {name}: config.json and a .safetensors file are needed"
        )
    try:
        return read_part(name, kind.from_pretrained, checkpoint)
    except MissingWeights as error:
        if "torchvision" in str(error.__cause__):
            raise MissingWeights(
                f"{name} needs torchvision, which Stillreel does not install"
            ) from error
        raise


def _assembled(folder: Folder, parts: Mapping[str, Any], device: torch.device) -> Any:
    """Return the folder's pipeline, which works on `device` wherever its parts wait."""
    expected, optional = folder.pipeline._get_signature_keys(folder.pipeline)
    absent = [name for name in expected if name not in parts]
    if lacking := set(absent) - set(folder.pipeline._optional_components):
        raise MissingWeights(
            f"the checkpoint has no {' and no '.join(sorted(lacking))}, and a {folder.call.kind}"
            " needs it: get the whole checkpoint again"
        )
    told = {
        name: value
        for name, value in folder.index.items()
        if name in optional and not isinstance(value, list)
    }
    namespace = {"_execution_device": property(lambda pipeline: device)}
    served = type(folder.pipeline.__name__, (folder.pipeline,), namespace)
    try:
        pipeline = served(**parts, **told, **dict.fromkeys(absent))
    except UNREADABLE as error:
        raise MissingWeights(
            f"the parts do not make a {folder.call.kind}: get the checkpoint again"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
