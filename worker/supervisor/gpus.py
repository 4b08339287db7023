"""Which GPUs this host has: those that work, and those that fell off the bus."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from shared.errors import AppError

NVIDIA_SMI_SECONDS: Final = 20
ALL_CARDS_SECONDS: Final = 60
MOST_CARDS: Final = 16
DRIVER: Final = Path("/proc/driver/nvidia/gpus")
PCI: Final = Path("/sys/bus/pci/devices")
NVIDIA: Final = "0x10de"
DISPLAY: Final = "0x03"

MIG_SHARE: Final = 0.95
"""A `1g.10gb` instance has 9.5 to 9.7 GiB."""

_QUERY: Final = ("--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits")
_LOST: Final = re.compile(r"GPU is lost|Unknown Error|requires reset|ERR!|device handle", re.I)
_BUS: Final = re.compile(r"[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f]")
_NO_DEVICES: Final = re.compile(r"No devices were found", re.I)
_NO_DRIVER: Final = re.compile(r"couldn't communicate with the NVIDIA driver", re.I)
_CARD: Final = re.compile(r"GPU (\d+):")
_INSTANCE: Final = re.compile(r"\s+MIG (\S+?)\s+Device\s+(\d+):\s+\(UUID: (MIG-\S+?)\)")
_GIGABYTES: Final = re.compile(r"(\d+)gb")


_REMEDY: Final = (
    "repair the driver (a restart of the host often helps), or render without cards:"
    " STILLREEL_GPUS=none"
)


class CardsUnknown(AppError):
    """The host has cards, but its driver does not say which."""

    code = "cards_unknown"


@dataclass(frozen=True)
class Host:
    """The places where a host shows its cards, and the time limit for the answer."""

    driver: Path = DRIVER
    pci: Path = PCI
    nvidia_smi_seconds: float = NVIDIA_SMI_SECONDS

    def has_cards(self) -> bool:
        """Say whether the kernel knows an NVIDIA card, with a driver or without."""
        return bool(self.cards_of_the_driver()) or any(map(_is_card, _entries(self.pci)))

    def cards_of_the_driver(self) -> list[str]:
        return sorted(path.name for path in _entries(self.driver))

    def unused(self, why: str) -> str:
        return f"this host has an NVIDIA card, but {why}" if self.has_cards() else ""

    def ask(self, program: str, *arguments: str) -> tuple[int, str]:
        """Return nvidia-smi's exit status and its output."""
        try:
            answer = subprocess.run(
                [program, *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=self.nvidia_smi_seconds,
            )
        except subprocess.TimeoutExpired:
            raise CardsUnknown(
                f"nvidia-smi did not answer within {self.nvidia_smi_seconds} s; {_REMEDY}"
            ) from None
        except OSError as error:
            raise CardsUnknown(f"nvidia-smi cannot be run ({error.strerror}); {_REMEDY}") from None
        return answer.returncode, answer.stdout


THIS_HOST: Final = Host()


@dataclass(frozen=True)
class Gpu:
    """A card of this host, or a MIG instance of one, which has a number like 0.1."""

    index: str
    name: str
    vram_bytes: int
    uuid: str = ""

    @property
    def pin(self) -> str:
        """The value for CUDA_VISIBLE_DEVICES; numbers shift when a card before it is lost."""
        return self.uuid or self.index


@dataclass(frozen=True)
class LostGpu:
    """A card that no longer answers; its number is "" if only its place on the bus is known."""

    index: str
    reason: str
    uuid: str = ""
    bus: str = ""

    @property
    def label(self) -> str:
        return self.index or self.bus or "unknown"


@dataclass(frozen=True)
class Found:
    """What a search of the host found; `warning` says why possible cards are not used."""

    gpus: Sequence[Gpu] = ()
    lost: Sequence[LostGpu] = ()
    warning: str = ""


def find_gpus(host: Host = THIS_HOST) -> Found:
    """Ask nvidia-smi for the cards.

    Raises:
        CardsUnknown: it fails on a host that has cards, which must not count as a host without
            cards.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return Found(warning=host.unused("nvidia-smi is not installed"))
    status, said = host.ask(program, *_QUERY)
    found = _read(said)
    if found.lost:
        found = _one_by_one(host, program, found)
    if found.gpus or found.lost:
        return replace(found, gpus=_with_instances(host, program, found.gpus))
    if status == 0 or (_NO_DEVICES.search(said) and not host.cards_of_the_driver()):
        return Found(warning=host.unused("nvidia-smi shows no card"))
    if _NO_DRIVER.search(said) and not host.has_cards():
        return Found(warning="nvidia-smi is installed, but no NVIDIA driver is loaded")
    raise CardsUnknown(f"nvidia-smi failed with status {status}: {_last_line(said)}; {_REMEDY}")


def _read(said: str) -> Found:
    """Sort the lines of an answer into cards that work and cards that do not."""
    gpus, lost = [], []
    for line in said.splitlines():
        parts = [part.strip() for part in line.split(",")]
        is_card = parts[0].isdigit() and len(parts) >= 3
        uuid = parts[1] if is_card and parts[1].startswith("GPU-") else ""
        if _LOST.search(line):
            bus = _BUS.search(line)
            index = parts[0] if is_card else ""
            lost.append(LostGpu(index, line.strip(), uuid, bus[0].lower() if bus else ""))
        elif is_card:
            name = ", ".join(parts[2:-1] if uuid else parts[1:-1])
            gpus.append(Gpu(parts[0], name, _bytes(parts[-1]), uuid))
    return Found(gpus, lost)


def _one_by_one(host: Host, program: str, first: Found) -> Found:
    """Ask for each card, because a list of all may end at the lost one."""
    names = host.cards_of_the_driver() or [str(number) for number in range(MOST_CARDS)]
    gpus, lost = list(first.gpus), list(first.lost)
    ends_at = time.monotonic() + ALL_CARDS_SECONDS
    for name in names:
        try:
            _, said = host.ask(program, f"--id={name}", *_QUERY)
        except CardsUnknown:
            lost.append(LostGpu("", "it does not answer", bus=name))
            continue
        found = _read(said)
        if not (found.gpus or found.lost) or time.monotonic() > ends_at:
            break
        gpus += found.gpus
        lost += found.lost
    by_label = {each.label: each for each in lost}
    return Found(list({gpu.index: gpu for gpu in gpus}.values()), list(by_label.values()))


def _with_instances(host: Host, program: str, gpus: Sequence[Gpu]) -> list[Gpu]:
    """Return the cards, with split cards replaced by their MIG instances."""
    _, said = host.ask(program, "-L")
    instances = list(_instances(said, {gpu.index: gpu for gpu in gpus}))
    split = {instance.index.partition(".")[0] for instance in instances}
    whole = [gpu for gpu in gpus if gpu.index not in split]
    return sorted([*whole, *instances], key=lambda gpu: [int(n) for n in gpu.index.split(".")])


def _instances(listed: str, cards: dict[str, Gpu]) -> Iterator[Gpu]:
    card: Gpu | None = None
    for line in listed.splitlines():
        if head := _CARD.match(line):
            card = cards.get(head[1])
        elif card and (found := _INSTANCE.match(line)):
            size = _GIGABYTES.search(found[1])
            memory = int(int(size[1]) * 1024**3 * MIG_SHARE) if size else 0
            name = f"{card.name} MIG {found[1]}"
            yield Gpu(f"{card.index}.{found[2]}", name, memory, found[3])


def _bytes(mebibytes: str) -> int:
    return int(mebibytes) * 1024 * 1024 if mebibytes.isdigit() else 0


def _is_card(device: Path) -> bool:
    try:
        vendor, kind = (device / "vendor").read_text(), (device / "class").read_text()
    except OSError:
        return False
    return vendor.startswith(NVIDIA) and kind.startswith(DISPLAY)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
