"""The files of tests/corpus, each with its expected result."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from tests.support.photos import Photo
from tests.support.stack import ROOT

CORPUS: Final = ROOT / "tests" / "corpus"
REFERENCE: Final = CORPUS / "images" / "reference.png"
RIGHT: Final = ".right.json"
LEVELS: Final = 4.0
"""Of 255, on average: how far an image may differ from its reference."""


@dataclass(frozen=True)
class Right:
    """The expected result of a case."""

    shows: str = REFERENCE.name
    grey: bool = False
    warns: str | None = None
    refused: str | None = None
    says: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)

    def look(self) -> Photo:
        look = Image.open(REFERENCE.parent / self.shows).convert("L" if self.grey else "RGB")
        return np.asarray(look.convert("RGB"))


def cases(folder: str) -> list[Path]:
    """Return the files of a folder that are cases."""
    return sorted(path for path in (CORPUS / folder).iterdir() if not path.name.endswith(RIGHT))


def right_of(case: Path) -> Right:
    beside = case.with_name(case.name + RIGHT)
    return Right(**json.loads(beside.read_text())) if beside.exists() else Right()


def distance(png: bytes, look: Photo) -> float:
    """Return how far an image differs from its reference, in levels of 255 on average.

    A smaller image is compared with the reference scaled to its size.
    """
    shown = Image.open(io.BytesIO(png)).convert("RGB")
    height, width = look.shape[:2]
    assert shown.width * height == shown.height * width, "another shape"
    right = Image.fromarray(look).resize(shown.size, Image.Resampling.LANCZOS)
    return float(np.abs(np.asarray(shown).astype(float) - np.asarray(right).astype(float)).mean())
