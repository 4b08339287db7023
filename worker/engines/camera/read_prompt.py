"""Reads camera moves from a prompt in English or Chinese."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from worker.engines.camera.moves import Move, MoveName, Speed
from worker.engines.camera.phrases import Phrase, Where
from worker.engines.camera.phrases_en import ENGLISH
from worker.engines.camera.phrases_zh import CHINESE


@dataclass(frozen=True)
class Understood:
    """The moves that a prompt asks for, in order; `is_default` if it names none."""

    moves: tuple[Move, ...]
    is_default: bool


@dataclass(frozen=True)
class Mention:
    """Words of a sentence that name moves, or deny them; no moves stand for any."""

    start: int
    end: int
    moves: tuple[MoveName, ...]
    is_denied: bool


LONGEST: Final = 4000
"""The characters that are read: half-width and in lower case, a prompt of 2,000 may have
36,000."""

CONSIDERED: Final = 400
"""The places of a prompt that may name a move; each is checked together with the words before it.
A usual prompt has a dozen, and a clip has five axes; later places are not read.

The usual prompt has a dozen, and a clip has five axes; what comes after so many is not read.
"""

REACH: Final = 160
"""The characters before a move in which the camera, a denial or a joint may be."""

DEFAULT: Final = Move(MoveName.PUSH_IN, Speed.SLOW)
# Only one of each pair is possible; the one named first is used.
OPPOSITES: Final = {
    MoveName.PULL_OUT: MoveName.PUSH_IN,
    MoveName.PAN_RIGHT: MoveName.PAN_LEFT,
    MoveName.TILT_DOWN: MoveName.TILT_UP,
    MoveName.ROLL_COUNTERCLOCKWISE: MoveName.ROLL_CLOCKWISE,
    MoveName.ARC_RIGHT: MoveName.ARC_LEFT,
}

PHRASES: Final = (*ENGLISH.phrases, *CHINESE.phrases)

_SIMPLIFIED: Final = str.maketrans(
    "鏡頭攝機遠進後緩輕漸動轉環繞順時針鎖靜態畫視搖橫掃從開傾運無與別請須沒斷並邊側滾變縮穩勻讓將個續線終飛離著圍顫風擺個",
    "镜头摄机远进后缓轻渐动转环绕顺时针锁静态画视摇横扫从开倾运无与别请须没断并边侧滚变缩稳匀让将个续线终飞离着围颤风摆个",
)
_SENTENCE: Final = re.compile(r"[;!?。\n]|\.(?!\d)")
_CAMERA: Final = re.compile(rf"{ENGLISH.camera}|{CHINESE.camera}")
_SLOW: Final = re.compile(rf"{ENGLISH.slow}|{CHINESE.slow}")
_QUICK: Final = re.compile(rf"{ENGLISH.quick}|{CHINESE.quick}")
_JOINT: Final = re.compile(rf"[,:()+&|–—]|\s-\s|{ENGLISH.joint}|{CHINESE.joint}")
# A denial reaches over three words or four characters, and never into the next clause.
_DENIAL: Final = re.compile(
    rf"(?:{ENGLISH.denial})(?:\s+(?!(?:{ENGLISH.joint}))[\w'-]+){{0,3}}[\s-]*$"
    rf"|(?:{CHINESE.denial})[^,、\s]{{0,4}}$"
)
_LISTED: Final = re.compile(
    rf"\s*(?:{ENGLISH.listed}|{CHINESE.listed})\s*(?:any\s+|the\s+|camera\s+|even\s+)*"
)
_LISTED_NOUN: Final = re.compile(r"\s*(?:,|\band\b|&)?\s*(?:and\s+)?(?:any\s+|the\s+|camera\s+)*")
_TOKEN: Final = re.compile(
    rf"(?P<known>{ENGLISH.denial}|{CHINESE.denial}|{ENGLISH.fillers}|{CHINESE.fillers}"
    rf"|{ENGLISH.camera}|{CHINESE.camera}|[\s,、:\-])|[a-z0-9']+|."
)
_NEW_SUBJECT: Final = re.compile(
    r"\b(?:while|as|when|where|until|before|after)\b"
    r"|(?:,|\band)\s+(?:an?|the|his|her|she|he|they|it|people)\b"
)
# After the verb only an adverb that ends its clause is about the camera: zoom in on the cup
# slowly, but not: pan left over a slow river.
_ADVERB: Final = re.compile(
    r"\b(?:\w+ly|fast|a (?:little|bit))\b"
    r"(?= ?$| (?:over|across|to|towards?|into|on|at|for|from|through|past)\b)"
)
_ALONE: Final = re.compile(
    r"\W*(?:still|static|fixed|stationary|freeze|do(?: not|n't) move"
    r"|静止|不动|固定|定格|别动|不要动)\W*"
)


def read_moves(prompt: str) -> Understood:
    """Return the camera moves that the prompt names.

    Words about the image are ignored: a still lake, a frying pan, a car that pulls out. A denied
    move is not made; if the prompt denies zooming and names nothing else, the camera rests.
    """
    text = _plain(prompt)
    if _ALONE.fullmatch(text):
        return Understood((Move(MoveName.STILL),), is_default=False)
    named: dict[MoveName, Move] = {}
    denied: set[MoveName] = set()
    left = CONSIDERED
    for sentence in _SENTENCE.split(text):
        found = _found(sentence)[:left]
        left -= len(found)
        mentions = tuple(_mentions(sentence, found))
        speeds = _speeds(sentence, mentions)
        for mention, speed in zip(mentions, speeds, strict=True):
            if mention.is_denied and mention.moves:
                denied.update(mention.moves)
            else:
                name = mention.moves[0] if mention.moves else MoveName.STILL
                axis = OPPOSITES.get(name, name)
                if named.setdefault(axis, Move(name, speed)) == Move(name):
                    named[axis] = Move(name, speed)  # The move is named again, now with its speed.
    if len(named) > 1:
        named.pop(MoveName.STILL, None)
    if named:
        return Understood(tuple(named.values()), is_default=False)
    if MoveName.PUSH_IN in denied:
        return Understood((Move(MoveName.STILL),), is_default=False)
    return Understood((DEFAULT,), is_default=True)


def _plain(prompt: str) -> str:
    """Return the prompt in lower case, half-width, simplified characters and single spaces."""
    text = unicodedata.normalize("NFKC", prompt).lower()
    text = text[:LONGEST].replace("’", "'").replace("_", " ")
    return re.sub(r"[^\S\n]+", " ", text).translate(_SIMPLIFIED)


def _found(sentence: str) -> list[tuple[int, int, int]]:
    """Return the start, the negated end and the phrase of every match, in the text's order."""
    return sorted(
        ((match.start(), -match.end(), order) for order, phrase in enumerate(PHRASES)
         for match in phrase.pattern.finditer(sentence))
    )  # fmt: skip


def _mentions(sentence: str, found: Sequence[tuple[int, int, int]]) -> Iterator[Mention]:
    """Yield the moves that the sentence names, in order; of overlapping phrases the longest."""
    previous: Mention | None = None
    for start, minus_end, order in found:
        phrase, end = PHRASES[order], -minus_end
        if previous and start < previous.end:
            continue
        is_denied = _is_denied(sentence, start, previous, is_open=len(phrase.moves) != 1)
        if phrase.where is Where.DENIED and not is_denied:
            continue
        if _is_about_camera(sentence, start, phrase, previous):
            previous = Mention(start, end, phrase.moves, is_denied)
            yield previous


def _is_denied(sentence: str, start: int, previous: Mention | None, *, is_open: bool) -> bool:
    """Say whether a denial covers `start`: its own, or one before a list that it belongs to.

    `is_open` phrases leave the direction open, like the nouns in "no pans and zooms"; after "and"
    or a comma only those continue the list: "no zoom, pan left" asks for a pan.
    """
    between = sentence[max(previous.end if previous else 0, start - REACH) : start]
    if _DENIAL.search(between):
        return True
    if previous is None or not previous.is_denied:
        return False
    return bool(_LISTED.fullmatch(between) or (is_open and _LISTED_NOUN.fullmatch(between)))


def _is_about_camera(sentence: str, start: int, phrase: Phrase, previous: Mention | None) -> bool:
    if phrase.where in (Where.ANYWHERE, Where.DENIED):
        return True
    opening = sentence[max(0, start - REACH) : start]
    if _is_subject_camera(opening, start, previous):
        return True
    if phrase.where is Where.CAMERA:
        return False
    verb = phrase.pattern.match(sentence, start)
    # "Pulls back" has a subject: within a sentence that is a person, at its start the camera.
    if verb is None or not re.match(r"[a-z]+s\b", verb[0]):
        opening = opening[_last_joint(opening) :]
    return _known_tail(opening) == opening


def _is_subject_camera(before: str, start: int, previous: Mention | None) -> bool:
    """Say whether the words at `start` are about the camera, or continue a phrase about it."""
    named = [match.end() for match in _CAMERA.finditer(before)]
    if named:
        since = before[named[-1] :]
        if _known_tail(since) == since and not re.match(r" (?:and|or)\b", since):
            return True
    if previous is None:
        return False
    since = before[max(0, len(before) - (start - previous.end)) :]
    joined = since[_last_joint(since) :]
    return joined != since and _known_tail(joined) == joined and not _NEW_SUBJECT.search(since)


def _speeds(sentence: str, mentions: Sequence[Mention]) -> list[Speed]:
    """Return the speed of each mention.

    "Slowly push in and pan left" means slow for both; "push in slowly and pan left" for the first.
    """
    speeds: list[Speed] = []
    carried = Speed.NORMAL
    for index, mention in enumerate(mentions):
        before = sentence[mentions[index - 1].end if index else 0 : mention.start]
        joint = _JOINT.search(before) if index else None
        leading = _known_tail(before[joint.end() if joint else 0 :])
        first = _speed_in(leading + sentence[mention.start : mention.end])
        if first is None and index and _known_tail(before) == before:
            first = carried
        carried = first or Speed.NORMAL
        is_last = index + 1 == len(mentions)
        after = sentence[mention.end : None if is_last else mentions[index + 1].start]
        speeds.append(_speed_in(_trailing(after, is_last=is_last)) or carried)
    return speeds


def _trailing(after: str, *, is_last: bool) -> str:
    """Return the part of the words after a mention that gives its speed."""
    joint = _JOINT.search(after)
    goes_on = is_last and _known_tail(after) == after  # Zoom in, but slowly.
    own = after[: joint.start()] if joint and not goes_on else after
    adverbs = " ".join(match[0] for match in _ADVERB.finditer(own))
    return f"{_known_head(own)} {adverbs}"


def _speed_in(words: str) -> Speed | None:
    if _SLOW.search(words):
        return Speed.SLOW
    return Speed.QUICK if _QUICK.search(words) else None


def _last_joint(text: str) -> int:
    """Return the start of the last clause of `text`."""
    ends = [match.end() for match in _JOINT.finditer(text)]
    return ends[-1] if ends else 0


def _known_tail(text: str) -> str:
    """Return the end of `text` that has only small words, the camera, speeds and denials."""
    start = 0
    for token in _TOKEN.finditer(text):
        if not token["known"]:
            start = token.end()
    return text[start:]


def _known_head(text: str) -> str:
    for token in _TOKEN.finditer(text):
        if not token["known"]:
            return text[: token.start()]
    return text
