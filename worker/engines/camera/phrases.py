"""What it takes for some words to name a camera move."""

import re
from dataclasses import dataclass
from enum import Enum

from worker.engines.camera.moves import MoveName


class Where(Enum):
    """Where a phrase must stand to be about the camera and not about the picture."""

    ANYWHERE = "the words mean nothing else"
    OPENING = "it opens a clause, or the camera is its subject"
    CAMERA = "the camera is its subject"
    DENIED = "it follows a denial, as in: without moving the camera"


@dataclass(frozen=True)
class Phrase:
    """A pattern and what it names: the first move when meant, all of them when denied.

    More than one move means the words leave the direction open; none means any movement.
    Patterns meet lower-case text in simplified characters.
    """

    pattern: re.Pattern[str]
    where: Where
    moves: tuple[MoveName, ...]


@dataclass(frozen=True)
class Language:
    """The phrases of one language and the small words around them, as patterns.

    `fillers` may stand between the camera, or the opening of a clause, and the verb; a `joint`
    ends what an adverb reaches; `listed` joins what one denial covers.
    """

    phrases: tuple[Phrase, ...]
    camera: str
    slow: str
    quick: str
    denial: str
    fillers: str
    joint: str
    listed: str


def phrase(pattern: str, where: Where, *moves: MoveName) -> Phrase:
    return Phrase(re.compile(pattern), where, moves)
