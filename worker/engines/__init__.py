"""The engines this build knows, by name; a class is imported only when it is used."""

from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from shared.errors import InvalidRequest
from shared.settings import Settings

if TYPE_CHECKING:  # The supervisor reads names only: it starts without numpy.
    from worker.engines.base import VideoEngine

BUILT_IN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "camera": "worker.engines.camera.engine:CameraEngine",
        "i2vgen-xl": "worker.engines.i2vgen.engine:I2VGenXLEngine",
        "svd": "worker.engines.svd.engine:SvdEngine",
        "svd-xt": "worker.engines.svd.engine:SvdXtEngine",
        "wan": "worker.engines.wan.engine:WanEngine",
    }
)


def chosen(setting: str, *, has_gpu: bool) -> dict[str, str]:
    """Return name -> "module:Class" for the ENGINES setting, in its order.

    The setting is `auto`, or a comma list of built-in names and `name=module:Class` entries.

    Raises:
        InvalidRequest: an entry is neither.
    """
    if setting.strip() == "auto":
        names = ["i2vgen-xl", "camera"] if has_gpu else ["camera"]
        return {name: BUILT_IN[name] for name in names}
    engines: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in setting.split(","))):
        name, equals, path = entry.partition("=")
        if equals and ":" in path:
            engines[name.strip()] = path.strip()
        elif entry in BUILT_IN:
            engines[entry] = BUILT_IN[entry]
        else:
            raise InvalidRequest(
                f"STILLREEL_ENGINES names {entry!r}; known are {', '.join(BUILT_IN)},"
                " or write name=module:Class for your own",
                param="ENGINES",
            )
    if not engines:
        raise InvalidRequest("STILLREEL_ENGINES is empty; try auto, or camera", param="ENGINES")
    return engines


def find_own(engines: Mapping[str, str]) -> None:
    """Import those engines that are not built in, whose import brings no model library.

    Raises:
        InvalidRequest: there is no such module or class, or importing it failed.
    """
    for name, path in engines.items():
        if path not in BUILT_IN.values():
            try:
                _class_at(path)
            except (ImportError, AttributeError, SyntaxError, ValueError) as error:
                raise InvalidRequest(
                    f"STILLREEL_ENGINES names {name}={path}, which could not be imported:"
                    f" {type(error).__name__}: {error}",
                    param="ENGINES",
                ) from error


def build(path: str, settings: Settings) -> "VideoEngine":
    """Return the engine at "module:Class", constructed with the settings; nothing is loaded."""
    return _class_at(path)(settings)


def _class_at(path: str) -> "Callable[[Settings], VideoEngine]":
    module, _, name = path.partition(":")
    found: Callable[[Settings], VideoEngine] = getattr(import_module(module), name)
    return found
