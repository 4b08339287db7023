"""A service whose jobs other servers render: real processes, two paid providers, two back ends."""

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import requests

from shared.bell import Bell
from shared.engines.entries import EngineEntry, EngineKind
from shared.engines.parameters import RequestedParameters
from shared.engines.registry import EngineRegistry
from shared.engines.spec import EngineSpec
from shared.jobs.job import Job
from shared.lifecycle import Stage
from tests.support.elsewhere import moving, mp4
from tests.support.factory import JobFixture, png
from tests.support.held_points import VARIABLE, HeldPoints
from tests.support.ports import free_port
from tests.support.processes import Program, until
from tests.support.providers import small_models
from tests.support.providers.fal import FalService
from tests.support.providers.runway import RunwayService
from tests.support.providers.service import KEY
from tests.support.stack import ROOT, Stack
from tests.support.video_server import SGLANG, VLLM, VideoServer, video_server
from worker.engines.remote.openai_videos.address import addresses
from worker.engines.remote.openai_videos.engine import spec

PATIENCE_SECONDS: Final = 240.0
IMAGE: Final = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
AT_START: Final = ROOT / "tests" / "support" / "providers" / "at_start"
PRICE_MICROS: Final = 100_000
OWN: Final = "wan"
PAID: Final = ("gen", "pika")
ENGINES: Final = (*PAID, OWN)


class Shops:
    """The four simulated servers, and the requests that each one received."""

    def __init__(
        self, runway: RunwayService, fal: FalService, back_ends: tuple[VideoServer, ...]
    ) -> None:
        self.runway = runway
        self.fal = fal
        self.back_ends = back_ends

    def creates(self) -> dict[str, Counter[str]]:
        """Return how many creates each engine has sent, by prompt."""
        own = Counter(form["prompt"] for each in self.back_ends for form in each.forms)
        services = {"gen": self.runway, "pika": self.fal}
        paid = {
            name: Counter(task.prompt for task in list(service.tasks.values()))
            for name, service in services.items()
        }
        return {OWN: own, **paid}

    def canceled(self) -> set[str]:
        """Return the prompts of the tasks whose cancel has reached a paid provider."""
        tasks = [*self.runway.tasks.values(), *self.fal.tasks.values()]
        return {task.prompt for task in tasks if task.is_canceled}

    def settings(self) -> dict[str, Any]:
        own = ",".join(each.entry(OWN) for each in self.back_ends)
        return {
            "engines": f"{small_models.ENTRIES},{own}",
            "runway_url": self.runway.url,
            "fal_url": self.fal.url,
            "runway_key": KEY,
            "fal_key": KEY,
            "send_images_to": "runway,fal",
            "outbound_allow": "127.0.0.0/8",
        }


@contextlib.contextmanager
def open_shops() -> Iterator[Shops]:
    film = mp4(moving(8), fps=8)
    with (
        RunwayService(film) as runway,
        FalService(film) as fal,
        video_server(VLLM) as vllm,
        video_server(SGLANG) as sglang,
    ):
        yield Shops(runway, fal, (vllm, sglang))


class House:
    """The processes of a service whose jobs the shops render; reads its tables and logs."""

    def __init__(self, stack: Stack, folder: Path, shops: Shops) -> None:
        self.shops = shops
        self.points = HeldPoints(folder / "points")
        self.port = free_port()
        settings: dict[str, Any] = {
            **shops.settings(),
            "port": self.port,
            "remote_jobs": 100,
            "lease_seconds": 60,  # A supervisor takes back a dead child's jobs at once.
            "keeper_tick_seconds": 0.2,
            "drain_seconds": 8,
            "max_attempts": 9,
            "paid_usd_per_day": 1000,
            "log_format": "json",
        }
        self._env = {
            **stack.env(**settings),
            VARIABLE: str(self.points.folder),
            "PYTHONPATH": os.pathsep.join([str(AT_START), str(ROOT)]),
        }
        self._folder = folder
        self._programs: list[Program] = []
        made = stack.settings(**settings)
        self.desk = JobFixture(made)
        self._bell = Bell(made.redis_url.get_secret_value())
        self.specs = specs()
        EngineRegistry(self.desk.db).offer(list(self.specs.values()))

    def start(self, module: str) -> Program:
        log = self._folder / f"{len(self._programs)}-{module}.log"
        self._programs.append(Program(module, self._env, log))
        return self._programs[-1]

    def order(self, engine: str, prompt: str) -> Job:
        """Queue a job and ring the bell, as the gateway does."""
        job = self.desk.submit(
            spec=self.specs[engine],
            image=IMAGE,
            asked=RequestedParameters(prompt=prompt, width=96, height=64, num_frames=8, fps=8),
            price_micros=PRICE_MICROS if engine in PAID else None,
        )
        self._bell.ring(engine)
        return job

    def at(self, job: Job, stage: Stage) -> None:
        until(lambda: self.desk.get(job).stage is stage, f"{job.id} is {stage}")

    def all_ended(self) -> list[Any]:
        """Wait until no job is alive, and return the rows of all jobs."""
        live = "SELECT 1 FROM jobs WHERE status IN ('queued', 'running')"
        until(lambda: not self.desk.run(live), "all end", within=PATIENCE_SECONDS)
        rows: list[Any] = self.desk.run(
            "SELECT *, parameters ->> 'prompt' AS prompt FROM jobs ORDER BY id"
        )
        return rows

    def logs(self) -> str:
        return "\n".join(f"--- {p.log.name}\n{p.text()[-1500:]}" for p in self._programs)

    def text(self) -> str:
        return "\n".join(program.text() for program in self._programs)

    def close(self) -> None:
        self.points.let_go()
        for program in self._programs:
            if program.process.poll() is None:
                program.kill()
        self._bell.close()
        self.desk.close()


def specs() -> dict[str, EngineSpec]:
    entry = EngineEntry(OWN, EngineKind.OPENAI_VIDEOS, ("http://h:8000/v1?model=wan",))
    return {**small_models.specs(), OWN: spec(OWN, addresses(entry)[0])}


class Client(threading.Thread):
    """Sends a job or its cancel until the gateway answers, however often the gateway dies."""

    def __init__(
        self, port: int, path: str, *, key: str = "", form: dict[str, str] | None = None
    ) -> None:
        super().__init__(daemon=True)
        self.answer: dict[str, Any] = {}
        self._url = f"http://127.0.0.1:{port}/v1/jobs{path}"
        self._headers = {"Idempotency-Key": key} if key else {}
        self._form = form
        self.gave_up = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.answer and not self.gave_up.wait(0.05):
            with contextlib.suppress(requests.RequestException, ValueError):
                files = {"image": ("photo.png", png(IMAGE))} if self._form else None
                answer = requests.post(
                    self._url, data=self._form, files=files, headers=self._headers, timeout=60
                )
                if answer.status_code in (200, 202, 409):
                    self.answer = answer.json()
                elif answer.status_code < 429:
                    self.answer = {"refused": answer.text}

    def done(self) -> dict[str, Any]:
        """Wait for the answer and return it."""
        self.join(PATIENCE_SECONDS)
        self.gave_up.set()
        assert "refused" not in self.answer, self.answer
        assert self.answer, f"no answer from {self._url}"
        return self.answer
