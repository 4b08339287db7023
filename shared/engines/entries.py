"""The ENGINES setting: which engine each entry names, and where to find it."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qs, urlsplit

from shared.errors import InvalidRequest

AUTO: Final = "auto"
FORMS: Final = (
    "name=module:Class for your own, name=diffusers:/folder for a diffusers checkpoint,"
    " name=openai-videos:http://host:port/v1?model=… for a server, or"
    " name=runway:model?usd_per_second=… (or fal:) for a hosted model"
)
LONGEST_NAME: Final = 64
# A name is part of addresses, of the bell's lists and of metrics.
NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}")
CLASS_PATH: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
ESCAPED_COMMA: Final = re.compile("%2c", re.IGNORECASE)


class EngineKind(StrEnum):
    """How an entry says where its engine is; all but the first two are written before a colon."""

    BUILT_IN = "built-in"
    OWN = "own"
    DIFFUSERS = "diffusers"
    OPENAI_VIDEOS = "openai-videos"
    RUNWAY = "runway"
    FAL = "fal"


PROVIDERS: Final = frozenset({EngineKind.RUNWAY, EngineKind.FAL})
"""Providers that charge money and get images; their settings are checked when a worker starts."""


@dataclass(frozen=True)
class EngineEntry:
    """One engine of the setting.

    `targets` has the name of a built-in engine, "module:Class" of one's own, the folder for
    diffusers, the address of each back end in the order written for openai-videos, and the model
    with its price for a provider.
    """

    name: str
    kind: EngineKind
    targets: tuple[str, ...]

    @property
    def target(self) -> str:
        return self.targets[0]

    def __str__(self) -> str:
        """Return the entry as the setting has it, with its first target."""
        if self.kind is EngineKind.BUILT_IN:
            return self.name
        place = self.target if self.kind is EngineKind.OWN else f"{self.kind}:{self.target}"
        return f"{self.name}={place}"


def split_entries(setting: str) -> Iterator[tuple[str, str | None]]:
    """Yield the name and the text after `=` of each entry; None if there is no `=`."""
    for entry in filter(None, (part.strip() for part in setting.split(","))):
        name, equals, target = entry.partition("=")
        yield name.strip(), target.strip() if equals else None


def parse_engines(setting: str, built_in: Collection[str]) -> tuple[EngineEntry, ...]:
    """Return the engines that the setting names, in its order; the setting is not `auto`.

    A comma inside an entry is written %2C.

    Raises:
        InvalidRequest: an entry cannot be read; the message names it, and what would be right.
    """
    entries: dict[str, EngineEntry] = {}
    for name, target in split_entries(setting):
        entry = _entry(name, target, built_in)
        known = entries.get(name)
        entries[name] = entry if known is None else _both(known, entry)
    if not entries:
        raise _refused("is empty; try auto, or camera")
    return tuple(entries.values())


def _entry(name: str, target: str | None, built_in: Collection[str]) -> EngineEntry:
    if target is None:
        if name in built_in:
            return EngineEntry(name, EngineKind.BUILT_IN, (name,))
        if name == AUTO:
            raise _refused("has auto beside other engines; auto stands alone, so name each engine")
        raise _refused(f"names {name!r}; known are {', '.join(built_in)}, or write {FORMS}")
    written = f"{name}={target}"
    if not NAME.fullmatch(name):
        raise _refused(
            f"names {written!r}, where {name!r} is no name: use up to {LONGEST_NAME} letters,"
            " digits, dots, underscores and hyphens, beginning with a letter or a digit"
        )
    kind, _, place = target.partition(":")
    if kind == EngineKind.DIFFUSERS:
        return EngineEntry(name, EngineKind.DIFFUSERS, (_folder(written, place.strip()),))
    if kind == EngineKind.OPENAI_VIDEOS:
        return EngineEntry(name, EngineKind.OPENAI_VIDEOS, (_address(written, place.strip()),))
    if kind in PROVIDERS:
        return EngineEntry(name, EngineKind(kind), (_hosted(written, place.strip()),))
    if not CLASS_PATH.fullmatch(target):
        raise _refused(f"names {written!r}, which cannot be read; write {FORMS}")
    return EngineEntry(name, EngineKind.OWN, (target,))


def _both(known: EngineEntry, added: EngineEntry) -> EngineEntry:
    """Return the entry with one more back end."""
    name, are_servers = known.name, known.kind is added.kind is EngineKind.OPENAI_VIDEOS
    if known.targets[-1:] == added.targets or set(added.targets) <= set(known.targets):
        raise _refused(f"names {name} twice in the same way; leave one out")
    if not are_servers:
        raise _refused(
            f"names {name} twice; give one of them another name (only openai-videos servers are"
            " added up under one name)"
        )
    return replace(known, targets=(*known.targets, *added.targets))


def _folder(written: str, place: str) -> str:
    folder = ESCAPED_COMMA.sub(",", place)
    if not folder.startswith("/"):
        raise _refused(
            f"names {written!r}, whose folder is not absolute; write it from the root, like"
            " ltx=diffusers:/models/ltx"
        )
    return folder


def _address(written: str, address: str) -> str:
    """Return the address of a server, checked as it is written.

    Errors do not repeat the address if it holds a password.
    """
    right = "write it like wan-fast=openai-videos:http://10.0.0.7:8000/v1?model=wan"
    name = written.partition("=")[0]
    try:
        parts = urlsplit(address)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        raise _refused(f"names {name}, whose address has no host and port; {right}") from None
    if parts.username is not None or parts.password is not None:
        raise _refused(f"names {name}, whose address holds a user or a password; {right}")
    if parts.scheme not in {"http", "https"} or not has_host:
        raise _refused(f"names {written!r}, whose address is not http(s)://host:port; {right}")
    if parts.fragment or re.search(r"\s", address):
        raise _refused(f"names {written!r}, whose address has a blank or a #; {right}")
    if len(parse_qs(parts.query).get("model", [])) != 1:
        raise _refused(f"names {written!r}, whose address does not name one model; {right}")
    return address


def _hosted(written: str, place: str) -> str:
    model, _, query = place.partition("?")
    if not model or re.search(r"[\s#]", place) or not query:
        raise _refused(
            f"names {written!r}, which cannot be read; write the model and its price, like"
            " gen4=runway:gen4_turbo?usd_per_second=0.05"
        )
    return place


def _refused(reason: str) -> InvalidRequest:
    return InvalidRequest(f"STILLREEL_ENGINES {reason}", param="ENGINES")
