"""The workers of this host: one for each card, or some for its CPU."""

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.engines.entries import EngineEntry
from shared.settings import Settings
from worker.engines import check_hosted, chosen, find_own, is_remote
from worker.supervisor.gpu_choice import asked_for, choose_gpus
from worker.supervisor.gpus import THIS_HOST, Found, Host, find_gpus
from worker.supervisor.worker_config import WorkerConfig


@dataclass(frozen=True)
class Hall:
    """The places of a host's workers, those whose cards are lost, and warnings for the log."""

    configs: list[WorkerConfig]
    lost: list[WorkerConfig]
    warning: str = ""


def find_worker_configs(
    settings: Settings, folder: Path, host: Host = THIS_HOST
) -> list[WorkerConfig]:
    """Return the places of `look_around` that can be used."""
    return look_around(settings, folder, host).configs


def look_around(settings: Settings, folder: Path, host: Host = THIS_HOST) -> Hall:
    """Return a place for each chosen GPU, or CPU_WORKERS places if none is to be used.

    Raises:
        InvalidRequest: GPUS or ENGINES names something that does not exist, or all its cards are
            lost.
        CardsUnknown: the host has cards, but cannot say which.
    """
    found = find_gpus(host) if asked_for(settings.gpus)[1] else Found()
    choice = choose_gpus(settings.gpus, found)
    named = chosen(settings.engines, has_gpu=bool(choice.gpus))
    find_own(named.values())  # Otherwise Celery would keep a child without its engines, for ever.
    check_hosted(named.values(), settings)
    identity = settings.worker_id or socket.gethostname()
    elsewhere = {name: entry for name, entry in named.items() if is_remote(entry)}
    engines = {name: entry for name, entry in named.items() if name not in elsewhere}
    remote = [_for_elsewhere(identity, folder, settings, elsewhere)] if elsewhere else []
    if not engines:
        return Hall(remote, [])

    def at_card(index: str, pin: str, name: str, vram_bytes: int | None) -> WorkerConfig:
        return WorkerConfig(
            worker=f"{identity}-gpu{index}",
            heartbeat_path=str(folder / f"gpu{index}"),
            device="cuda:0",  # The child sees only one card, so it is always the first.
            cuda_visible_devices=pin,
            device_name=name,
            vram_bytes=vram_bytes,
            engines=engines,
        )

    if choice.gpus:
        return Hall(
            [
                *(at_card(gpu.index, gpu.pin, gpu.name, gpu.vram_bytes) for gpu in choice.gpus),
                *remote,
            ],
            [
                at_card(
                    re.sub(r"\W+", "-", each.label), each.uuid or each.label, each.reason, None
                )
                for each in choice.lost
            ],
        )
    places = range(settings.cpu_workers)
    on_processor = [_on_processor(identity, folder, index, engines) for index in places]
    return Hall([*on_processor, *remote], [], found.warning)


def _on_processor(
    identity: str, folder: Path, index: int, engines: Mapping[str, EngineEntry]
) -> WorkerConfig:
    """Return one of the places of a host that uses no card."""
    return WorkerConfig(
        worker=f"{identity}-cpu{index}",
        heartbeat_path=str(folder / f"cpu{index}"),
        device="cpu",
        cuda_visible_devices="",
        device_name=None,
        vram_bytes=None,
        engines=engines,
    )


def _for_elsewhere(
    identity: str, folder: Path, settings: Settings, engines: Mapping[str, EngineEntry]
) -> WorkerConfig:
    """Return the one place of a host for all remote renders."""
    return WorkerConfig(
        worker=f"{identity}-remote",
        heartbeat_path=str(folder / "remote"),
        device="cpu",
        cuda_visible_devices="",
        device_name=None,
        vram_bytes=None,
        engines=engines,
        places=settings.remote_jobs,
    )
