"""Which workers this host gets: one for each card, or some for its processor."""

import re
import socket
from dataclasses import dataclass
from pathlib import Path

from shared.settings import Settings
from worker.engines import chosen, find_own
from worker.supervisor.gpu_choice import asked_for, choose_gpus
from worker.supervisor.gpus import Found, find_gpus
from worker.supervisor.worker_config import WorkerConfig


@dataclass(frozen=True)
class Hall:
    """The places of a host's workers, those whose cards are lost, and what has to be told."""

    configs: list[WorkerConfig]
    lost: list[WorkerConfig]
    warning: str = ""


def find_worker_configs(settings: Settings, folder: Path) -> list[WorkerConfig]:
    """Return the places of `look_around` that can be worked at."""
    return look_around(settings, folder).configs


def look_around(settings: Settings, folder: Path) -> Hall:
    """Return a place for each chosen GPU, or CPU_WORKERS places where none is to be used.

    Raises:
        InvalidRequest: GPUS or ENGINES names what is not there, or all its cards are lost.
        CardsUnknown: the host has cards, and cannot say which.
    """
    found = find_gpus() if asked_for(settings.gpus)[1] else Found()
    choice = choose_gpus(settings.gpus, found)
    engines = chosen(settings.engines, has_gpu=bool(choice.gpus))
    find_own(
        engines.values()
    )  # Celery would keep a child whose engines are not there, idle for ever.
    identity = settings.worker_id or socket.gethostname()

    def at_card(index: str, pin: str, name: str, vram_bytes: int | None) -> WorkerConfig:
        return WorkerConfig(
            worker=f"{identity}-gpu{index}",
            heartbeat_path=str(folder / f"gpu{index}"),
            device="cuda:0",  # The child sees one card only, so it is always the first.
            cuda_visible_devices=pin,
            device_name=name,
            vram_bytes=vram_bytes,
            engines=engines,
        )

    if choice.gpus:
        return Hall(
            [at_card(gpu.index, gpu.pin, gpu.name, gpu.vram_bytes) for gpu in choice.gpus],
            [
                at_card(
                    re.sub(r"\W+", "-", each.label), each.uuid or each.label, each.reason, None
                )
                for each in choice.lost
            ],
        )
    on_processor = [
        WorkerConfig(
            worker=f"{identity}-cpu{index}",
            heartbeat_path=str(folder / f"cpu{index}"),
            device="cpu",
            cuda_visible_devices="",
            device_name=None,
            vram_bytes=None,
            engines=engines,
        )
        for index in range(settings.cpu_workers)
    ]
    return Hall(on_processor, [], found.warning)
