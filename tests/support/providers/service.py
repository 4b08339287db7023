"""A provider of hosted models on loopback: it keeps every request, and answers badly on demand."""

import contextlib
import json
import ssl
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self
from uuid import uuid4

from tests.support.processes import until

KEY: Final = "planted-provider-key-5d0c7e21"


@dataclass(frozen=True)
class Reply:
    """An answer; without a status the connection closes unanswered."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    missing: int = 0
    """The number of bytes that it promises but does not send."""

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return b"" if self.body is None else json.dumps(self.body).encode()


LOST: Final = Reply(status=0)
"""The request takes effect, but the answer never comes."""

CUT: Final = Reply(status=-2)
"""The request takes effect, but its answer ends in the middle."""

ENDLESS: Final = Reply(status=-1)
"""A body without an end."""


def cut(reply: Reply) -> Reply:
    """Return an answer whose connection closes in the middle of its body."""
    return replace(reply, missing=1000)


@dataclass
class Task:
    """A purchase: the body of its create, and its state."""

    id: str
    body: dict[str, Any]
    looks: int = 0
    is_canceled: bool = False

    @property
    def prompt(self) -> str:
        return str(self.body.get("promptText") or self.body.get("prompt") or "")

    @property
    def words(self) -> list[str]:
        return self.prompt.split()


@dataclass(frozen=True)
class Heard:
    method: str
    path: str
    headers: Mapping[str, str]


class ProviderService:
    """The common part of all stand-ins; `answer` of each gives the provider's own answers.

    A task ends once it was looked at `looks_needed` times and `may_end` is set. A task with `hold`
    in its prompt never ends, and one with `fail` ends with `failure`. The replies in `at_create`,
    `at_look`, `at_result`, `at_cancel` and `at_film` are given first, one for each request. If
    such a create is LOST, the task exists all the same.
    """

    def __init__(self, film: bytes, *, tls: ssl.SSLContext | None = None) -> None:
        self.film = film
        self.tasks: dict[str, Task] = {}
        self.heard: list[Heard] = []
        self.looks_needed = 2
        self.may_end = threading.Event()
        self.may_end.set()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.may_fetch = threading.Event()
        self.may_fetch.set()
        self.failure: Any = None
        self.at_create: deque[Reply] = deque()
        self.at_look: deque[Reply] = deque()
        self.at_result: deque[Reply] = deque()
        self.at_cancel: deque[Reply] = deque()
        self.at_film: deque[Reply] = deque()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"{scheme}://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.may_answer.set()
        self.may_fetch.set()
        self._server.shutdown()
        self._thread.join(30)
        self._server.server_close()

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Reply:
        """Return the provider's answer; a request without the key has been refused."""
        raise NotImplementedError

    def is_authorized(self, headers: Mapping[str, str]) -> bool:
        raise NotImplementedError

    def denied(self) -> Reply:
        raise NotImplementedError

    def asked(self, method: str, part: str = "") -> list[Heard]:
        with self._lock:
            return [each for each in self.heard if each.method == method and part in each.path]

    def wait_for_create(self) -> Task:
        """Return the first task, once there is one."""
        return until(lambda: next(iter(list(self.tasks.values())), None), "a task was bought")

    def new_task(self, body: dict[str, Any]) -> Task:
        task = Task(uuid4().hex, body)
        self.tasks[task.id] = task
        return task

    def looked_at(self, task: Task) -> bool:
        """Count a poll; say whether the task has ended."""
        task.looks += 1
        return self.is_over(task)

    def is_over(self, task: Task) -> bool:
        is_due = task.looks >= self.looks_needed and self.may_end.is_set()
        return is_due and "hold" not in task.words

    def failure_of(self, task: Task) -> Any:
        return self.failure or ("INTERNAL" if "fail" in task.words else None)

    def film_url(self, task: Task) -> str:
        return f"{self.url}/films/{task.id}.mp4?_jwt=signed"

    def creates(self, body: dict[str, Any], said: Any) -> Reply:
        """Make a task and answer with `said(task)`, or with the reply that a test has planned."""
        planned = self.at_create.popleft() if self.at_create else None
        if planned is not None and planned not in (LOST, CUT):
            return planned
        task = self.new_task(body)
        made = Reply(200, said(task))
        return LOST if planned is LOST else cut(made) if planned is CUT else made

    def _handle(self, heard: Heard, content: bytes) -> Reply:
        with self._lock:
            self.heard.append(heard)
        path = heard.path.partition("?")[0]
        if path.startswith("/films/"):
            return self.at_film.popleft() if self.at_film else self._film(heard)
        if not self.is_authorized(heard.headers):
            return self.denied()
        with self._lock:
            return self.answer(heard.method, path, json.loads(content) if content else {})

    def _film(self, heard: Heard) -> Reply:
        self.may_fetch.wait()
        if "authorization" in heard.headers:
            return Reply(400, {"error": "two ways to authenticate"})
        return Reply(200, self.film, {"Content-Type": "video/mp4"})

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                heard = Heard(self.command, self.path, headers)
                reply = service._handle(heard, self.rfile.read(size))
                with contextlib.suppress(OSError):
                    service._send(self, reply)

            do_GET = do_POST = do_DELETE = do_PUT = serve

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        self.may_answer.wait()
        handler.close_connection = reply.status <= 0 or reply.missing > 0
        if reply is LOST:
            return
        if reply is ENDLESS:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n")
            while not self._over.is_set():
                handler.wfile.write(bytes(65536))
            return
        handler.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            handler.send_header(name, value)
        if reply.status != 204:
            handler.send_header("Content-Length", str(len(reply.content) + reply.missing))
        handler.end_headers()
        handler.wfile.write(reply.content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: a test killed the client, or the client trusted no certificate."""
