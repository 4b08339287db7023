"""A service whose answers a test writes, over real sockets."""

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Line:
    """One answer; a cut one promises `missing` bytes more than it sends."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    missing: int = 0

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return b"" if self.body is None else json.dumps(self.body).encode()


HANG_UP = Line(status=0)
"""The connection closes without an answer."""


@dataclass(frozen=True)
class Heard:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class ScriptedService:
    """Gives its answers in turn, the last one again and again, and keeps its requests."""

    def __init__(self, *lines: Line) -> None:
        self.lines = list(lines)
        self.heard: list[Heard] = []
        self._lock = threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                heard = Heard(self.command, self.path, headers, self.rfile.read(size))
                service.play(self, service.next_line(heard))

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def next_line(self, heard: Heard) -> Line:
        with self._lock:
            self.heard.append(heard)
            return self.lines.pop(0) if len(self.lines) > 1 else self.lines[0]

    @staticmethod
    def play(handler: BaseHTTPRequestHandler, line: Line) -> None:
        handler.close_connection = line.status == 0 or line.missing > 0
        if line.status == 0:
            return
        handler.send_response(line.status)
        for name, value in {"Content-Type": "application/json", **line.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(line.content) + line.missing))
        handler.end_headers()
        handler.wfile.write(line.content)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(30)
        self._server.server_close()


@contextlib.contextmanager
def scripted(*lines: Line) -> Iterator[ScriptedService]:
    service = ScriptedService(*lines)
    try:
        yield service
    finally:
        service.close()


def job_body(**changes: Any) -> dict[str, Any]:
    """Return a job as the service shows it."""
    body: dict[str, Any] = {
        "id": "job_1",
        "object": "job",
        "status": "queued",
        "stage": None,
        "progress": {"percent": 0, "step": None, "total_steps": None, "eta_seconds": None},
        "queue": {"position": 1, "eta_seconds": None},
        "created_at": "2026-11-30T10:00:00Z",
        "model": "camera",
        "input": {"prompt": "slow push in"},
        "seed": 7,
        "output": None,
        "error": None,
        "version": 1,
        "warnings": [],
    }
    return body | changes


def succeeded(video: bytes = b"an mp4", **changes: Any) -> dict[str, Any]:
    file = {"url": "http://x/", "sha256": sha256(video).hexdigest(), "bytes": len(video)}
    done = {"status": "succeeded", "output": {"ai_generated": False, "video": file}, "version": 9}
    return job_body(**(done | changes))


def problem(status: int, code: str, detail: str = "no", **headers: str) -> Line:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"status": status, "code": code, "detail": detail, "param": None, "request_id": "req_1"}
    return Line(status, body, {"Content-Type": "application/problem+json", **named})
