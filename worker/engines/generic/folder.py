"""The folder of an entry: its class, and whether that class can serve jobs."""

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from shared.errors import MissingWeights
from worker.engines.diffusion.checkpoint import INDEX, read_index
from worker.engines.diffusion.parts import UNREADABLE
from worker.engines.generic.call import TO_A_LAST_FRAME, Call, read_call

LIBRARIES: Final = ("diffusers", "transformers")
# Published under their class for text; the same parts make clips from an image.
OF_AN_IMAGE: Final = {
    "LTXPipeline": "LTXImageToVideoPipeline",
    "LTX2Pipeline": "LTX2ImageToVideoPipeline",
}


@dataclass(frozen=True)
class Folder:
    """A folder whose class can serve jobs."""

    path: Path
    index: Mapping[str, Any]
    pipeline: Any
    call: Call

    @property
    def parts(self) -> Mapping[str, tuple[str, str]]:
        """Return name -> (library, class) of each part that exists."""
        return {
            name: (value[0], value[1])
            for name, value in self.index.items()
            if isinstance(value, list) and len(value) == 2 and all(value)
        }

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """Return the only (width, height) in latents that the class renders, None if any works."""
        config = self._denoiser_config
        width, height = config.get("sample_width"), config.get("sample_height")
        is_fixed = bool(config.get("use_learned_positional_embeddings"))
        if not (is_fixed and isinstance(width, int) and isinstance(height, int)):
            return None
        return width, height

    @property
    def frames_to_a_last(self) -> int | None:
        """Return the step of the lengths that end in a last image, None if the class takes none.

        Weights that did not learn a last image ignore it without an error, as Wan's TI2V-5B does,
        or treat it as if it were the first one twice, as Wan 2.1 does except FLF2V.
        """
        config = self._denoiser_config
        sees_one = config.get("image_dim") is not None and not config.get("pos_embed_seq_len")
        is_taught = not self.index.get("expand_timesteps") and not sees_one
        return TO_A_LAST_FRAME.get(self.call.kind) if is_taught else None

    @property
    def _denoiser_config(self) -> Mapping[str, Any]:
        try:
            path = self.path / "transformer" / "config.json"
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return config if isinstance(config, dict) else {}


def read_folder(path: Path) -> Folder:
    """Return the checked folder.

    Raises:
        MissingWeights: its class cannot serve jobs; the message says why.
    """
    index = read_index(path)
    named = index.get("_class_name")
    if not isinstance(named, str):
        raise MissingWeights(
            f"the folder of this engine has no {INDEX} that names a class: give the folder that"
            " diffusers has saved a pipeline in"
        )
    kind = OF_AN_IMAGE.get(named, named)
    _check_parts(index)
    pipeline = _class_of(kind)
    call = read_call(kind, inspect.signature(pipeline.__call__))
    module = inspect.getsource(inspect.getmodule(pipeline) or pipeline)
    if "is_torchvision_available" in module and find_spec("torchvision") is None:
        raise MissingWeights(
            f"{kind} cannot be served as diffusers:/folder: it needs torchvision, which Stillreel"
            " does not install"
        )
    return Folder(path, index, pipeline, call)


def _check_parts(index: Mapping[str, Any]) -> None:
    for name, value in index.items():
        if isinstance(value, list) and value and value[0] not in (None, *LIBRARIES):
            raise MissingWeights(
                f"the part {name} is of {value[0]}, code that the checkpoint brings or that is not"
                " installed, and it is never run: only parts of diffusers and transformers are"
            )


def _class_of(kind: str) -> Any:
    import diffusers

    try:
        found = getattr(diffusers, kind, None)
    except UNREADABLE as error:
        raise MissingWeights(
            f"{kind} cannot be imported here ({type(error).__name__}): what it needs is not"
            " installed"
        ) from error
    if not (inspect.isclass(found) and issubclass(found, diffusers.DiffusionPipeline)):
        raise MissingWeights(
            f"{kind} is not a pipeline of diffusers {diffusers.__version__}, which is what"
            " Stillreel has: get a checkpoint that names one"
        )
    return found
