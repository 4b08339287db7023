"""Faults in the folder of a checkpoint, for tests of the sentence that refuses it."""

import json
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file

Spoil = Callable[[Path], object]


def change_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def changed(name: str, **values: object) -> Spoil:
    """Return a function that writes other values into a JSON file of the folder."""
    return lambda folder: change_json(folder / name, **values)


def weights_of(folder: Path, part: str) -> Path:
    (path,) = (folder / part).glob("*.safetensors")
    return path


def lose_a_weight(part: str) -> Spoil:
    def lose(folder: Path) -> None:
        path = weights_of(folder, part)
        weights = load_file(path)
        weights.pop(sorted(weights)[0])
        save_file(weights, path, metadata={"format": "pt"})

    return lose


def only_as_a_pickle(part: str) -> Spoil:
    def rename(folder: Path) -> None:
        path = weights_of(folder, part)
        path.rename(path.with_suffix(".bin"))

    return rename
