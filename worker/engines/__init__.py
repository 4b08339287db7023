"""The engines that this version knows, by name; a class is imported only when it is used."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from shared.engines.entries import (
    AUTO,
    PROVIDERS,
    EngineEntry,
    EngineKind,
    parse_engines,
)
from shared.engines.spec import EngineSpec
from shared.errors import InvalidRequest
from shared.settings import Settings

if TYPE_CHECKING:  # The supervisor reads only names, so it starts without numpy.
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
    {
        EngineKind.DIFFUSERS: "worker.engines.generic.engine:GenericEngine",
        EngineKind.OPENAI_VIDEOS: "worker.engines.remote.openai_videos.engine:OpenAIVideosEngine",
        EngineKind.RUNWAY: "worker.engines.remote.runway.engine:RunwayEngine",
        EngineKind.FAL: "worker.engines.remote.fal.engine:FalEngine",
    }
)
"""The engines for entries that say more than a name or a class; each gets the entry too."""

REMOTE: Final = "worker.engines.remote."
"""The folder of engines that render on other servers."""


def chosen(setting: str, *, has_gpu: bool) -> dict[str, EngineEntry]:
    """Return the entries of the ENGINES setting by name, in its order.

    Raises:
        InvalidRequest: an entry cannot be read.
    """
    if setting.strip() == AUTO:
        setting = "i2vgen-xl,camera" if has_gpu else "camera"
    return {entry.name: entry for entry in parse_engines(setting, BUILT_IN)}


def is_remote(entry: EngineEntry) -> bool:
    """Say whether another server renders: no card is needed, and one process has many jobs."""
    return _path(entry).startswith(REMOTE)


def find_own(entries: Iterable[EngineEntry]) -> None:
    """Check the engines that are not built in; importing them imports no model library.

    Raises:
        InvalidRequest: the module, class or folder does not exist, its import failed, or its
            engine has another name.
    """
    for entry in entries:
        named = f"STILLREEL_ENGINES names {entry}"
        if entry.kind is EngineKind.OWN:
            _find_class(entry, named)
        elif entry.kind is EngineKind.OPENAI_VIDEOS:
            from worker.engines.remote.openai_videos.address import addresses

            addresses(entry)
        elif entry.kind is EngineKind.DIFFUSERS:
            _check_folder(entry, named)
        elif entry.kind is not EngineKind.BUILT_IN and entry.kind not in BY_KIND:
            raise InvalidRequest(f"{named}, and this version has no {entry.kind}", param="ENGINES")


def check_hosted(entries: Iterable[EngineEntry], settings: Settings) -> None:
    """Check that an engine of a paid provider has all settings that it needs.

    Raises:
        InvalidRequest: a price, a key, or the permission to send images is missing.
    """
    for entry in entries:
        if entry.kind in PROVIDERS:
            _at("worker.engines.remote.hosted.offer:check_offer")(entry, settings)


def build(entry: EngineEntry, settings: Settings) -> "VideoEngine":
    """Return the engine of an entry, constructed with the settings; nothing is loaded."""
    build_it = _at(_path(entry))
    engine: VideoEngine = (
        build_it(settings, entry) if entry.kind in BY_KIND else build_it(settings)
    )
    return engine


def _path(entry: EngineEntry) -> str:
    """Return the "module:Class" of an entry."""
    if entry.kind in BY_KIND:
        return BY_KIND[entry.kind]
    return BUILT_IN[entry.name] if entry.kind is EngineKind.BUILT_IN else entry.target


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
            f"{named}, whose spec has the name {spec.name}; write {spec.name}={entry.target}",
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
