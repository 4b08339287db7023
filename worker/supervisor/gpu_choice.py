"""Which of this host's GPUs the settings and the environment choose."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shared.errors import InvalidRequest
from worker.supervisor.gpus import Found, Gpu, LostGpu

EVERY: Final = "all"
NONE: Final = frozenset({"none", "-1", "nodevfiles"})
"""Values that mean no card, and end a list as they do for CUDA."""

APPLIED: Final = frozenset({"", "void", EVERY})
"""Values of NVIDIA_VISIBLE_DEVICES that choose nothing, because the visible cards are already
those chosen."""


@dataclass(frozen=True)
class Choice:
    """The cards to use, and the cards that would be used if they were not lost."""

    gpus: Sequence[Gpu] = ()
    lost: Sequence[LostGpu] = ()


def asked_for(setting: str) -> tuple[str, str]:
    """Return the variable that decides, and its value: a list, "all", or "" for no card."""
    wanted = setting.strip()
    if wanted and wanted.lower() != EVERY:
        return "STILLREEL_GPUS", _until_none(wanted)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip().lower() != EVERY:
        return "CUDA_VISIBLE_DEVICES", _until_none(visible)
    mounted = os.environ.get("NVIDIA_VISIBLE_DEVICES", "").strip()
    if visible is None and mounted.lower() not in APPLIED:
        return "NVIDIA_VISIBLE_DEVICES", _until_none(mounted)
    return "STILLREEL_GPUS", EVERY


def choose_gpus(setting: str, found: Found) -> Choice:
    """Return the chosen cards, by numbers, UUIDs or their beginnings, or MIG ids.

    Raises:
        InvalidRequest: a named card is not on this host, or is named twice, or all are lost.
    """
    variable, listed = asked_for(setting)
    names = [part.strip() for part in listed.split(",") if part.strip()]
    if listed == EVERY or (variable == "NVIDIA_VISIBLE_DEVICES" and _is_applied(names, found)):
        choice = Choice(found.gpus, found.lost)
    else:
        choice = _named(variable, names, found)
    if choice.lost and not choice.gpus:
        labels = "; ".join(f"{each.label}: {each.reason}" for each in choice.lost)
        raise InvalidRequest(
            f"no card answers that {variable} asks for ({labels}); reset it or restart the host,"
            " or render without cards: STILLREEL_GPUS=none",
            param="GPUS",
        )
    return choice


def _until_none(listed: str) -> str:
    names = [part.strip() for part in listed.split(",")]
    ends = [place for place, name in enumerate(names) if name.lower() in NONE]
    return ",".join(names[: ends[0]] if ends else names)


def _is_applied(names: Sequence[str], found: Found) -> bool:
    """Say whether a container was given exactly these cards, which count from 0 inside it."""
    here = {gpu.index.partition(".")[0] for gpu in found.gpus} | {it.index for it in found.lost}
    is_shifted = all(name.isdigit() for name in names) and not here.issuperset(names)
    return is_shifted and len(names) == len(here)


def _named(variable: str, names: Sequence[str], found: Found) -> Choice:
    gpus: list[Gpu] = []
    lost: list[LostGpu] = []
    missing = []
    for name in names:
        matches = [gpu for gpu in found.gpus if _is_meant(name, gpu.index, gpu.uuid)]
        gone = [each for each in found.lost if _is_meant(name, each.index, each.uuid)]
        if not matches and not gone and name.isdigit():
            gone = [each for each in found.lost if not each.index and each not in lost][:1]
        if len({gpu.index.partition(".")[0] for gpu in matches}) > 1:
            raise InvalidRequest(
                f"{variable} names {name}, and several UUIDs begin with it; write more of it",
                param="GPUS",
            )
        if any(gpu in gpus for gpu in matches):
            raise InvalidRequest(f"{variable} names the card {name} twice", param="GPUS")
        if not matches and not gone:
            missing.append(name)
        gpus += matches
        lost += gone
    if missing:
        known = ", ".join(f"{gpu.index} {gpu.uuid}".strip() for gpu in found.gpus) or "none"
        raise InvalidRequest(
            f"{variable} names {', '.join(missing)}; the cards of this host are: {known}",
            param="GPUS",
        )
    return Choice(gpus, lost)


def _is_meant(name: str, index: str, uuid: str) -> bool:
    """Say whether a name in a list means this card; a card's number means all its instances."""
    if name.lower().startswith(("gpu-", "mig-")):
        return uuid.lower().startswith(name.lower())
    return bool(index) and name in (index, index.partition(".")[0])
