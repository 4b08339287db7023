"""Which files of an engine's repositories are wanted, and their download."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

from shared.errors import MissingWeights
from shared.settings import Settings
from worker.download.hub import Hub
from worker.download.manifest import Manifest
from worker.download.modelscope import ModelScope
from worker.download.pull import Checkpoint, Pull
from worker.download.repository import Listing, RemoteFile, Repository
from worker.download.source import Source
from worker.engines.base import OnProgress
from worker.engines.diffusion.checkpoint import INDEX, PICKLES, Layout

HALF: Final = ".fp16"
WEIGHTS: Final = re.compile(
    r"(?:model|diffusion_pytorch_model)(?:\.fp16)?(?:-\d{5}-of-\d{5})?\.safetensors"
)
TEXTS: Final = frozenset({".json", ".txt", ".model"})
OFFLINE: Final = frozenset({"1", "on", "yes", "true"})


def may_download(settings: Settings) -> bool:
    """Say whether this process may contact a hub; HF_HUB_OFFLINE forbids it, as usual."""
    is_offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in OFFLINE
    return settings.download_weights and not is_offline


def pull(
    layout: Layout, settings: Settings, on_progress: OnProgress, source: Source | None = None
) -> Manifest:
    """Make the engine's folder complete, and return its manifest.

    Raises:
        MissingWeights: the weights cannot be downloaded; the message says what to do.
    """
    checkpoint = Checkpoint(
        engine=layout.name,
        repositories=layout.repositories,
        choose=partial(chosen_files, layout),
        convert=partial(_convert, layout),
        converted=layout.to_bf16,
        written=_written(layout),
    )
    return Pull(
        checkpoint,
        source or source_of(settings),
        settings.weights_folder / layout.name,
        spare_bytes=settings.min_free_bytes,
    ).run(on_progress)


def source_of(settings: Settings) -> Source:
    return ModelScope() if settings.model_source == "modelscope" else Hub(settings)


def chosen_files(
    layout: Layout, repository: Repository, listing: Listing
) -> Iterator[tuple[str, RemoteFile]]:
    """Yield each file of the repository that the engine needs, with its place in the folder.

    Raises:
        MissingWeights: the repository lacks a part, or has it only as pickles.
    """
    folders: dict[str, list[RemoteFile]] = {}
    for file in listing.files:
        path = PurePosixPath(file.path)
        if len(path.parts) <= 2:
            folders.setdefault(path.parent.as_posix(), []).append(file)
    if repository.into is not None:
        root = folders.get(".", [])
        yield from _part(layout, repository.into, root, repository)
        return
    if layout.index is None:
        yield from ((INDEX, file) for file in folders.get(".", []) if file.path == INDEX)
    elsewhere = {each.into for each in layout.beside}
    for part in (*layout.weighted, *layout.optional):
        is_there = part in folders or part not in layout.optional
        if part not in elsewhere and is_there:
            yield from _part(layout, part, folders.get(part, []), repository)
    for part in layout.plain:
        for file in folders.get(part, []):
            if PurePosixPath(file.path).suffix in TEXTS:
                yield file.path, file


def _part(
    layout: Layout, part: str, files: Sequence[RemoteFile], repository: Repository
) -> Iterator[tuple[str, RemoteFile]]:
    named = {PurePosixPath(file.path).name: file for file in files}
    weights = [name for name in named if WEIGHTS.fullmatch(name)]
    halves = [name for name in weights if HALF in name]
    whole = [name for name in weights if HALF not in name]
    # fp16 files if they exist, which is half the bytes; else the other files of the part.
    picked = (halves or whole) if layout.prefers_half else (whole or halves)
    if not picked:
        raise MissingWeights(_no_weights(part, named, repository))
    is_half = HALF in picked[0]
    configs = [
        name
        for name in named
        if name.endswith(".json") and (".index." not in name or (HALF in name) == is_half)
    ]
    for name in (*configs, *picked):
        yield f"{part}/{name}", named[name]


def _no_weights(part: str, names: "dict[str, RemoteFile]", repository: Repository) -> str:
    if pickles := sorted(name for name in names if PurePosixPath(name).suffix in PICKLES):
        return (
            f"{repository.hub_id} has {part} only as {pickles[0]}, a format that can run code when"
            " opened: set STILLREEL_MODEL_DIR to a folder that has it as safetensors"
        )
    return (
        f"{repository.hub_id} has no {part} as safetensors: set STILLREEL_MODEL_DIR to a folder of"
        " weights that has it"
    )


def _written(layout: Layout) -> dict[str, bytes]:
    if layout.index is None:
        return {}
    return {INDEX: json.dumps(dict(layout.index), indent=1).encode()}


def _convert(layout: Layout, place: Path) -> str | None:
    from worker.engines.diffusion.bfloat16 import to_bfloat16

    return "bfloat16" if to_bfloat16(place, layout.in_float32) else None
