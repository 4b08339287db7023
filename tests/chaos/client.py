"""Clients that never give up on a key, and the fsynced ledger of what they were promised."""

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
    """What the gateway has promised, each line on disk before the next request."""

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
    """One request as its client saw it: when it was sent, and how long it had to wait."""

    at: float
    seconds: float
    status: int | None

    @property
    def was_refused(self) -> bool:
        """There was no gateway at all just then; a hang would have taken longer."""
        return self.status is None and self.seconds < 1


@dataclass
class Clients:
    """Sends jobs by key until each has its 202; some twice at once, some canceled."""

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
        """Return when every job was accepted, or `stopping` was set."""
        with ThreadPoolExecutor(self.threads, thread_name_prefix="client") as pool:
            for _ in pool.map(self._one, range(jobs)):
                pass

    def have(self, accepted: float) -> bool:
        return len(self.ledger.accepted) >= accepted

    def probe(self) -> None:
        """Keep looking at the list, so that every outage is met by a read too."""
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
        """Send until it is accepted; return the job's id, None when stopped."""
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
        """Ask until there is an answer; 409 is one."""
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
        """An answer cut short by the gateway's death promises nothing."""
        try:
            answer.json()
        except ValueError:
            return False
        return True
