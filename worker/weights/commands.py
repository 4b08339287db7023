"""The commands of `python -m worker.weights`."""

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from shared.engines.entries import EngineKind
from shared.engines.weights import WeightsState
from shared.errors import InvalidRequest
from shared.settings import Settings
from worker.download.lock import is_locked
from worker.download.manifest import is_foreign, read_manifest, write_manifest
from worker.download.space import in_words
from worker.engines import chosen
from worker.engines.diffusion.checkpoint import Layout, pulled
from worker.engines.diffusion.pull import pull as pull_layout
from worker.weights.catalogue import LAYOUTS, TINY, Layouts, layout_of
from worker.weights.shelf import look_at

STEP: Final = 0.05
SECONDS_BETWEEN_LINES: Final = 30.0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Progress:
    """Prints every twentieth of a download, and twice a minute that it still waits or works."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._next = 0.0
        self._said_at = time.monotonic()

    def __call__(self, fraction: float, what: str) -> None:
        now = time.monotonic()
        if fraction >= self._next or now - self._said_at > SECONDS_BETWEEN_LINES:
            self._next = (fraction // STEP + 1) * STEP
            self._said_at = now
            say(f"{self._engine}: {what}, {100 * fraction:.0f} %")


def pull(engines: Sequence[str], settings: Settings, known: Layouts = LAYOUTS) -> int:
    """Download the missing files of the named engines, else of those that the settings name."""
    if engines:
        layouts = [layout_of(name, known) for name in engines]
    else:
        entries = chosen(settings.engines, has_gpu=True).values()
        names = {entry.name for entry in entries if entry.kind is EngineKind.BUILT_IN}
        layouts = [layout for name, layout in known.items() if name in names]
    if settings.model_dir is not None:
        return _pull_nothing(settings.model_dir, layouts, settings)
    for layout in layouts:
        manifest = pulled(layout, settings)
        if manifest is None:
            manifest = pull_layout(layout, settings, Progress(layout.name))
        size = sum(kept.size for kept in manifest.files.values())
        say(f"{layout.name}: complete, {in_words(size)} on the disk")
    say("weights_ready")
    return 0


def _pull_nothing(model_dir: Path, layouts: Sequence[Layout], settings: Settings) -> int:
    """Say whether the operator's own folder has the weights; nothing is ever written into it."""
    missing = [
        layout.name
        for layout in layouts
        if look_at(layout, settings).state is not WeightsState.READY
    ]
    for name in missing:
        say(
            f"stillreel: STILLREEL_MODEL_DIR holds no {name} checkpoint: it, or the folder {name}"
            " in it, must have a model_index.json; unset it to download the weights"
        )
    if not missing:
        say("weights_ready")
    return 1 if missing else 0


def list_all(settings: Settings, known: Layouts = LAYOUTS) -> int:
    where = settings.model_dir or settings.weights_folder
    say(f"weights in {where.absolute()}")
    for name, layout in known.items():
        view = look_at(layout, settings)
        size = in_words(view.bytes_total) if view.bytes_total else "size not known yet"
        share = f"{100 * view.fraction:.0f} % of " if view.state is not WeightsState.READY else ""
        state = f"{view.state}, {share}{size}" if settings.model_dir is None else str(view.state)
        sources = ", ".join(
            f"{each.hub_id} at {each.revision[:12]}" for each in layout.repositories
        )
        say(f"  {name:<12} {state}; from {sources}")
    return 0


def verify(engines: Sequence[str], settings: Settings, known: Layouts = LAYOUTS) -> int:
    """Read every byte of the named engines' weights, else of all weights here."""
    folders = {name: settings.weights_folder / name for name in engines or known}
    for name in engines:
        layout_of(name, known)
    is_sound = True
    for name, folder in folders.items():
        manifest = read_manifest(folder)
        if manifest is None:
            if engines:
                say(f"{name}: not here: python -m worker.weights pull {name}")
                is_sound = False
            continue
        faults = dict(manifest.faults(folder))
        for fault in faults.values():
            say(f"{name}: {fault}")
        if faults:
            is_sound = False
            write_manifest(folder, manifest.without(faults))
            say(f"{name}: python -m worker.weights pull {name} downloads the damaged files again")
        else:
            say(f"{name}: {len(manifest.files)} files are as they were downloaded")
    return 0 if is_sound else 1


def remove(engine: str, settings: Settings, known: Layouts = LAYOUTS) -> int:
    """Remove the downloaded weights of an engine, and no other files."""
    layout_of(engine, known)
    folder = settings.weights_folder / engine
    if not folder.is_dir():
        say(f"{engine}: nothing of it is in {settings.weights_folder}")
        return 1
    if is_locked(folder):
        raise InvalidRequest(f"{engine} is being downloaded by another process; stop that first")
    if is_foreign(folder):
        raise InvalidRequest(
            f"the folder of {engine} has weights and no manifest of ours: it was not made by pull,"
            " so remove it by hand"
        )
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    shutil.rmtree(folder)
    say(f"{engine}: removed, {in_words(size)} are free")
    return 0


def _quiet() -> None:
    for library in ("diffusers", "transformers"):
        import_module(f"{library}.utils.logging").disable_progress_bar()


def tiny(engine: str, folder: str) -> int:
    """Write a small random checkpoint of an engine into an empty folder."""
    if engine not in TINY:
        raise InvalidRequest(
            f"there is no small checkpoint of {engine}; there are those of {', '.join(TINY)}"
        )
    place = Path(folder)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise InvalidRequest("the folder for a small checkpoint must be empty or new")
    _quiet()
    module, _, name = TINY[engine].partition(":")
    build: Callable[[Path], Any] = getattr(import_module(module), name)
    build(place)
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    say(
        f"{engine}: a small random checkpoint, {in_words(size)}. It loads like the real one, but"
        " its clips are noise: it is for trying the whole process, not for real clips.\n"
        f"  STILLREEL_ENGINES={engine},camera STILLREEL_MODEL_DIR={place.absolute()} make run"
    )
    return 0
