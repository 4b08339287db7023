"""Clients that never give up on a key, and the fsynced ledger of the promises that they got."""

import contextlib
import json
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import requests

from tests.support.gateway import photo_png

REQUEST_SECONDS: Final = 30.0
IMAGE: Final = photo_png(size=(64, 64))
FORM: Final = {"model": "scripted", "width": "64", "height": "64", "num_frames": "1"}


class Ledger:
    """The promises of the gateway; each line is on disk before the next request is sent."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")
        self._lock = threading.Lock()
        self.accepted: list[tuple[str, str]] = []
        self.canceled: set[str] = set()

    def accept(self, key: str, job_id: str) -> None:
        with self._lock:
            self._write({"key": key, "id": job_id})
            self.accepted.append((key, job_id))

    def cancel(self, job_id: str) -> None:
        with self._lock:
            self._write({"canceled": job_id})
            self.canceled.add(job_id)

    def close(self) -> None:
        self._file.close()

    def _write(self, line: dict[str, str]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


@dataclass(frozen=True)
class Asked:
    """One request as its client saw it: when it was sent, and how long the client waited."""

    at: float
    seconds: float
    status: int | None

    @property
    def was_refused(self) -> bool:
        """Whether no gateway ran just then; a gateway that hangs takes longer than a second."""
        return self.status is None and self.seconds < 1


@dataclass
class Clients:
    """Sends each job's key until it gets a 202; sends some twice at once, and cancels some."""

    url: str
    ledger: Ledger
    seed: int
    hooks: list[str]
    script: Callable[[int, random.Random], str]
    asked: list[Asked] = field(default_factory=list)
    threads: int = 4
    may_send: Callable[[int], bool] = lambda number: True
    stopping: threading.Event = field(default_factory=threading.Event)

    def send(self, jobs: int) -> None:
        """Return when every job is accepted, or when `stopping` is set."""
        with ThreadPoolExecutor(self.threads, thread_name_prefix="client") as pool:
            for _ in pool.map(self._one, range(jobs)):
                pass

    def have(self, accepted: float) -> bool:
        return len(self.ledger.accepted) >= accepted

    def probe(self) -> None:
        """Read the list again and again, so that every outage meets a read too."""
        while not self.stopping.wait(0.2):
            self._ask("GET", "/v1/jobs?limit=1")

    def _one(self, number: int) -> None:
        while not self.may_send(number) and not self.stopping.wait(0.05):
            pass
        rng = random.Random(f"{self.seed}-{number}")
        key, form = f"{self.seed}-{number}", self.form(self.script(number, rng), rng)
        if rng.random() < 0.05:
            twin = threading.Thread(target=self.insist, args=(key, form), daemon=True)
            twin.start()
            self.insist(key, form)
            twin.join()
            return
        job_id = self.insist(key, form)
        if job_id is not None and rng.random() < 0.05:
            self.stopping.wait(rng.random())
            self.cancel(job_id)

    def form(self, script: str, rng: random.Random) -> dict[str, str]:
        hook = rng.choice(self.hooks)
        return {**FORM, "seed": str(rng.getrandbits(31)), "prompt": script, "webhook[url]": hook}

    def insist(self, key: str, form: dict[str, str]) -> str | None:
        """Send until the job is accepted and return its id; return None when stopped."""
        while not self.stopping.is_set():
            answer = self._ask(
                "POST",
                "/v1/jobs",
                data=form,
                files={"image": ("photo.png", IMAGE)},
                headers={"Idempotency-Key": key},
            )
            if answer is not None and answer.status_code == 202:
                job_id = str(answer.json()["id"])
                self.ledger.accept(key, job_id)
                return job_id
            if answer is not None and answer.status_code < 429:
                raise AssertionError(f"refused with {answer.status_code}: {answer.text[:300]}")
            self.stopping.wait(0.2)
        return None

    def cancel(self, job_id: str) -> None:
        """Ask until there is an answer; 409 counts as one."""
        while not self.stopping.is_set():
            answer = self._ask("POST", f"/v1/jobs/{job_id}/cancel")
            if answer is not None and answer.status_code == 200:
                self.ledger.cancel(job_id)
            if answer is not None and answer.status_code < 429:
                return
            self.stopping.wait(0.2)

    def _ask(self, method: str, path: str, **options: Any) -> requests.Response | None:
        began = time.time()
        status = None
        with contextlib.suppress(requests.RequestException):
            answer = requests.request(method, self.url + path, timeout=REQUEST_SECONDS, **options)
            status = answer.status_code
            if not self._is_whole(answer):
                status = None
        self.asked.append(Asked(began, time.time() - began, status))
        return None if status is None else answer

    def _is_whole(self, answer: requests.Response) -> bool:
        """Return whether the answer is whole: one cut by the gateway's death promises nothing."""
        try:
            answer.json()
        except ValueError:
            return False
        return True
