"""The engines this build knows, by name; a class is imported only when it is used."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from shared.engines.entries import AUTO, EngineEntry, EngineKind, parse_engines
from shared.engines.spec import EngineSpec
from shared.errors import InvalidRequest
from shared.settings import Settings

if TYPE_CHECKING:  # The supervisor reads names only: it starts without numpy.
    from worker.engines.base import VideoEngine

BUILT_IN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "animatediff": "worker.engines.animatediff.engine:AnimateDiffEngine",
        "camera": "worker.engines.camera.engine:CameraEngine",
        "i2vgen-xl": "worker.engines.i2vgen.engine:I2VGenXLEngine",
        "svd": "worker.engines.svd.engine:SvdEngine",
        "svd-xt": "worker.engines.svd.engine:SvdXtEngine",
        "wan": "worker.engines.wan.engine:WanEngine",
    }
)

BY_KIND: Final[Mapping[EngineKind, str]] = MappingProxyType(
    {EngineKind.DIFFUSERS: "worker.engines.generic.engine:GenericEngine"}
)
"""What serves the entries that say more than a name or a class; it is given the entry too."""


def chosen(setting: str, *, has_gpu: bool) -> dict[str, EngineEntry]:
    """Return the entries of the ENGINES setting by name, in its order.

    Raises:
        InvalidRequest: an entry cannot be read.
    """
    if setting.strip() == AUTO:
        setting = "i2vgen-xl,camera" if has_gpu else "camera"
    return {entry.name: entry for entry in parse_engines(setting, BUILT_IN)}


def find_own(entries: Iterable[EngineEntry]) -> None:
    """Look for those engines that are not built in; importing them brings no model library.

    Raises:
        InvalidRequest: there is no such module, class or folder, or importing it failed, or its
            engine has another name.
    """
    for entry in entries:
        named = f"STILLREEL_ENGINES names {entry}"
        if entry.kind is EngineKind.OWN:
            _find_class(entry, named)
        elif entry.kind is EngineKind.DIFFUSERS:
            _check_folder(entry, named)
        elif entry.kind is not EngineKind.BUILT_IN and entry.kind not in BY_KIND:
            raise InvalidRequest(f"{named}, and this version has no {entry.kind}", param="ENGINES")


def build(entry: EngineEntry, settings: Settings) -> "VideoEngine":
    """Return the engine of an entry, constructed with the settings; nothing is loaded."""
    engine: VideoEngine
    if entry.kind in BY_KIND:
        engine = _at(BY_KIND[entry.kind])(settings, entry)
    else:
        is_built_in = entry.kind is EngineKind.BUILT_IN
        engine = _at(BUILT_IN[entry.name] if is_built_in else entry.target)(settings)
    return engine


def _find_class(entry: EngineEntry, named: str) -> None:
    try:
        found = _at(entry.target)
    except (ImportError, AttributeError, SyntaxError, ValueError) as error:
        raise InvalidRequest(
            f"{named}, which could not be imported: {type(error).__name__}: {error}",
            param="ENGINES",
        ) from error
    spec = getattr(found, "spec", None)
    if isinstance(spec, EngineSpec) and spec.name != entry.name:
        raise InvalidRequest(
            f"{named}, whose spec calls it {spec.name}; write {spec.name}={entry.target}",
            param="ENGINES",
        )


def _check_folder(entry: EngineEntry, named: str) -> None:
    if not (Path(entry.target) / "model_index.json").is_file():
        raise InvalidRequest(
            f"{named}, a folder without a model_index.json; name one that diffusers has saved a"
            " pipeline in, as this worker sees it",
            param="ENGINES",
        )
    if find_spec("diffusers") is None:
        raise InvalidRequest(
            f"{named}, and diffusers is not installed here:"
            " pip install -r requirements/models.txt",
            param="ENGINES",
        )


def _at(path: str) -> Any:
    """Return the class at "module:Class"."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
