"""Which GPUs this host has, and which of them this supervisor shall use."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shared.errors import InvalidRequest

NVIDIA_SMI_SECONDS: Final = 20
_QUERY: Final = ("--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Gpu:
    """A card of this host; `index` is what CUDA_VISIBLE_DEVICES takes."""

    index: str
    name: str
    vram_bytes: int


def find_gpus() -> Sequence[Gpu]:
    """Return the cards nvidia-smi lists, none where there is no driver or no answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        answer = subprocess.run(
            [program, *_QUERY], capture_output=True, text=True, timeout=NVIDIA_SMI_SECONDS
        )
    except subprocess.TimeoutExpired:
        return []
    if answer.returncode != 0:
        return []
    return [_parse(line) for line in answer.stdout.splitlines() if line.count(",") == 2]


def choose_gpus(setting: str, found: Sequence[Gpu]) -> Sequence[Gpu]:
    """Return the cards the GPUS setting names: `all`, `none`, or a comma list of indices.

    Raises:
        InvalidRequest: a card is named that this host does not have.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    wanted = setting.strip()
    if wanted == "none" or (wanted == "all" and visible == ""):
        return []
    if wanted == "all" and visible is None:
        return found
    listed = visible if wanted == "all" and visible is not None else wanted
    named = [part.strip() for part in listed.split(",")]
    by_index = {gpu.index: gpu for gpu in found}
    missing = [index for index in named if index not in by_index]
    if missing:
        known = ", ".join(by_index) or "none"
        raise InvalidRequest(
            f"STILLREEL_GPUS names {', '.join(missing)}; the cards of this host are: {known}",
            param="GPUS",
        )
    return [by_index[index] for index in named]


def _parse(line: str) -> Gpu:
    index, name, mebibytes = (part.strip() for part in line.split(","))
    return Gpu(index, name, int(mebibytes) * 1024 * 1024 if mebibytes.isdigit() else 0)
