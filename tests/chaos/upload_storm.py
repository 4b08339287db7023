"""A seeded storm of uploads, good and hostile, over one real gateway process.

`python -m tests.chaos.upload_storm --requests 5000 --seed 1` prints one table.
"""

import argparse
import contextlib
import json
import platform
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

import psutil

from tests.chaos.bad_requests import Request, requests
from tests.support.decoding import is_decoding
from tests.support.gateway import FakeWorker
from tests.support.ports import free_port
from tests.support.processes import Program, crew, until
from tests.support.servers import running_servers
from tests.support.stack import Stack

CLIENTS: Final = 16
PATIENCE_SECONDS: Final = 180.0
TRIES: Final = 200
WARM_UPS: Final = 60
QUARTERS: Final = 4
MAX_DECODERS: Final = 4
LEAVES_WITHIN: Final = 20.0
"""Whatever is there for longer than this is left for good."""

MAX_REFUSAL_BYTES: Final = 4096
MAX_GROWTH_BYTES: Final = 150 * 10**6
NO_ANSWER: Final = 0


@dataclass(frozen=True)
class Answer:
    """The answer to a request; `status` is 0 if there was no answer."""

    status: int
    body: bytes

    @property
    def code(self) -> str:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return str(json.loads(self.body)["code"])
        return ""

    @property
    def is_refusal(self) -> bool:
        return 400 <= self.status < 500

    @property
    def says_what_is_right(self) -> bool:
        """Whether the refusal has a code and a sentence."""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return len(json.loads(self.body)["detail"]) > 20 and self.code != ""
        return False


@dataclass
class Watch:
    """Measurements of the gateway during the storm; sizes are in bytes."""

    slowest_livez_seconds: float = 0.0
    livez_answers: int = 0
    livez_failures: int = 0
    peak_bytes: int = 0
    peak_decoders_bytes: int = 0


@dataclass
class Report:
    """The result of a storm."""

    requests: int
    seed: int
    kinds: int = 0
    seconds: float = 0.0
    answers: Counter[str] = field(default_factory=Counter)
    busy: int = 0
    wrong: list[str] = field(default_factory=list)
    growth_by_quarter: list[int] = field(default_factory=list)
    watch: Watch = field(default_factory=Watch)
    left: list[str] = field(default_factory=list)

    @property
    def growth_bytes(self) -> int:
        return self.growth_by_quarter[-1]

    def broken(self) -> list[str]:
        """Return every promise that was not kept."""
        broken = [*self.wrong, *self.left]
        if self.growth_bytes > MAX_GROWTH_BYTES:
            broken.append(f"the gateway grew by {self.growth_bytes / 1e6:.0f} MB")
        if self.watch.livez_failures or not self.watch.livez_answers:
            broken.append(f"/livez failed {self.watch.livez_failures} times")
        return broken


class UploadStorm:
    """Sends the requests of a seed to its own gateway, and watches that gateway."""

    def __init__(self, stack: Stack, folder: Path, seed: int, count: int) -> None:
        self._stack = stack
        self._folder = folder
        self._report = Report(count, seed)
        self._port = free_port()
        self._lock = threading.Lock()
        self._kinds: set[str] = set()

    def run(self) -> Report:
        with crew(self._stack, self._folder) as people, FakeWorker.on(self._stack):
            gateway = people.start(
                "api", port=self._port, max_queued_per_key=10**6, rate_limit="none"
            )
            until(lambda: _livez(self._port), "the gateway serves")
            self._send_all(request for request in requests(0, WARM_UPS) if request.then == "stay")
            self._report.answers.clear()
            before = _resident(gateway)
            over = threading.Event()
            watcher = threading.Thread(target=self._watch, args=(gateway, over))
            watcher.start()
            began = time.monotonic()
            coming = requests(self._report.seed, self._report.requests)
            for _ in range(QUARTERS):
                self._send_all(islice(coming, -(-self._report.requests // QUARTERS)))
                self._report.growth_by_quarter.append(_resident(gateway) - before)
            self._report.seconds = time.monotonic() - began
            over.set()
            watcher.join()
            self._note_leftovers(gateway)
            self._report.kinds = len(self._kinds)
            self._stop(gateway)
        return self._report

    def _send_all(self, coming: Iterator[Request]) -> None:
        def client() -> None:
            while True:
                with self._lock:
                    request = next(coming, None)
                if request is None:
                    return
                self._note(request, self._insist(request))

        with ThreadPoolExecutor(CLIENTS) as clients:
            for done in [clients.submit(client) for _ in range(CLIENTS)]:
                done.result()

    def _insist(self, request: Request) -> Answer:
        """Return the answer; if the gateway says that it is busy, send the request again."""
        for _ in range(TRIES):
            answer = send(self._port, request)
            if answer.code != "busy":
                break
            with self._lock:
                self._report.busy += 1
            time.sleep(0.5)
        return answer

    def _note(self, request: Request, answer: Answer) -> None:
        with self._lock:
            self._kinds.add(request.kind)
            self._report.answers[f"{answer.status or 'none'} {answer.code}".strip()] += 1
            if answer.status not in request.right:
                said = answer.body[:200].decode(errors="replace")
                self._report.wrong.append(f"{request.kind}: {answer.status} {said}")
            elif answer.is_refusal and not answer.says_what_is_right:
                self._report.wrong.append(f"{request.kind}: no reason: {answer.body[:200]!r}")
            elif answer.is_refusal and len(answer.body) > MAX_REFUSAL_BYTES:
                self._report.wrong.append(f"{request.kind}: {len(answer.body)} bytes of refusal")

    def _watch(self, gateway: Program, over: threading.Event) -> None:
        watch = self._report.watch
        while not over.wait(0.05):
            began = time.monotonic()
            if _livez(self._port):
                watch.livez_answers += 1
            else:
                watch.livez_failures += 1
            seconds = time.monotonic() - began
            watch.slowest_livez_seconds = max(watch.slowest_livez_seconds, seconds)
            watch.peak_bytes = max(watch.peak_bytes, _resident(gateway))
            decoders = 0
            for child in gateway.children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    decoders += child.memory_info().rss
            watch.peak_decoders_bytes = max(watch.peak_decoders_bytes, decoders)

    def _note_leftovers(self, gateway: Program) -> None:
        """Note what is left; wait first, because the gateway may notice hang-ups late."""
        ends_at = time.monotonic() + LEAVES_WITHIN
        while left := list(self._leftovers(gateway)):
            if time.monotonic() > ends_at:
                break
            time.sleep(0.05)
        self._report.left += left

    def _leftovers(self, gateway: Program) -> Iterator[str]:
        """Yield decoders that still work or are too many, and files that are left."""
        process = psutil.Process(gateway.pid)
        if any(map(is_decoding, process.children(recursive=True))):
            yield "an image is still being decoded"
        if (decoders := len(process.children())) > MAX_DECODERS:
            yield f"there are {decoders} decoders"
        files = [path for path in self._stack.data_dir.rglob("*") if path.is_file()]
        yield from (f"a file is left: {path.name}" for path in files)
        descriptors = Path(f"/proc/{gateway.pid}/fd")
        for link in descriptors.iterdir() if descriptors.exists() else ():
            with contextlib.suppress(FileNotFoundError):  # It was closed in the meantime.
                target = str(link.readlink())
                if "(deleted)" in target:
                    yield f"{target} is open"

    def _stop(self, gateway: Program) -> None:
        decoders = gateway.children()
        if (status := gateway.terminate()) != 0:
            self._report.left.append(f"the gateway ended with status {status}")
        _, alive = psutil.wait_procs(decoders, timeout=60)
        self._report.left += [f"process {process.pid} is left" for process in alive]


def send(port: int, request: Request) -> Answer:
    """Send the bytes of a request unchanged, and return the gateway's answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
        with contextlib.suppress(ConnectionError):  # The answer may come before the end.
            connection.sendall(request.wire)
        if request.then == "hang up":
            return Answer(NO_ANSWER, b"")
        if request.then == "trickle":
            _trickle(connection)
        return _read(connection)


def _trickle(connection: socket.socket) -> None:
    """Send a byte every half second until the other side answers or closes."""
    connection.settimeout(0.5)
    with contextlib.suppress(ConnectionError):
        while True:
            with contextlib.suppress(TimeoutError):
                connection.recv(1, socket.MSG_PEEK)
                break
            connection.sendall(b"a")
    connection.settimeout(PATIENCE_SECONDS)


def _read(connection: socket.socket) -> Answer:
    received = bytearray()
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            received += piece
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    return Answer(int(status[0]) if status else NO_ANSWER, body)


def _livez(port: int) -> bool:
    alive = Request("livez", b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", _OK)
    try:
        return send(port, alive).status == 200
    except OSError:
        return False


_OK: Final = frozenset({200})


def _resident(gateway: Program) -> int:
    return int(psutil.Process(gateway.pid).memory_info().rss)


def table(report: Report) -> str:
    watch = report.watch
    rows = [
        ("requests, kinds, seed", f"{report.requests}, {report.kinds}, {report.seed}"),
        ("seconds", f"{report.seconds:.0f}"),
        ("answers", ", ".join(f"{name} {n}" for name, n in sorted(report.answers.items()))),
        ("told to come back (503 busy)", str(report.busy)),
        ("wrong answers", str(len(report.wrong))),
        (
            "gateway's memory: growth after each quarter, peak",
            ", ".join(f"{size / 1e6:.0f}" for size in report.growth_by_quarter)
            + f" MB, {watch.peak_bytes / 1e6:.0f} MB",
        ),
        ("decoders' memory: peak of all", f"{watch.peak_decoders_bytes / 1e6:.0f} MB"),
        (
            "/livez: answers, failures, slowest",
            f"{watch.livez_answers}, {watch.livez_failures},"
            f" {watch.slowest_livez_seconds * 1000:.0f} ms",
        ),
        ("left: files, processes", str(len(report.left))),
    ]
    lines = [f"| {name} | {value} |" for name, value in rows]
    return "\n".join(["| uploads | |", "|---|---|", *lines, "", *report.broken()[:20], ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stillreel-uploads-") as name:
        folder = Path(name)
        with running_servers(folder) as servers:
            (folder / "data").mkdir()
            stack = Stack(servers, folder / "data")
            report = UploadStorm(stack, folder, asked.seed, asked.requests).run()
    sys.stdout.write(f"{platform.platform()}, {psutil.cpu_count()} cores\n{table(report)}")
    return 1 if report.broken() else 0


if __name__ == "__main__":
    sys.exit(main())
