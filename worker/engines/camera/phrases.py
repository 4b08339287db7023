"""The conditions under which words name a camera move."""

import re
from dataclasses import dataclass
from enum import Enum

from worker.engines.camera.moves import MoveName


class Where(Enum):
    """The position that a phrase needs to be about the camera and not about the image."""

    ANYWHERE = "the words mean nothing else"
    OPENING = "it opens a clause, or the camera is its subject"
    CAMERA = "the camera is its subject"
    DENIED = "it follows a denial, as in: without moving the camera"


@dataclass(frozen=True)
class Phrase:
    """A pattern and its moves: the first move when it is meant, all of them when it is denied.

    More than one move means that the words leave the direction open; no move means any movement.
    Patterns are matched with lower-case text in simplified characters.
    """

    pattern: re.Pattern[str]
    where: Where
    moves: tuple[MoveName, ...]


@dataclass(frozen=True)
class Language:
    """The phrases of one language and the small words around them, as patterns.

    `fillers` may come between the camera, or the beginning of a clause, and the verb; a `joint`
    ends the reach of an adverb; `listed` joins the things that one denial covers.
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
