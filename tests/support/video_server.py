"""A server of `/v1/videos` on loopback, with the oddities of sglang's and vLLM-Omni's."""

import contextlib
import email.parser
import email.policy
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from tests.support.elsewhere import moving, mp4

OPENAI: Final = "openai"
VLLM: Final = "vllm-omni"
SGLANG: Final = "sglang"


class VideoServer:
    """Renders each request at once, except for certain words in the prompt.

    `fail`, `refuse` and `busy` do what they say; `hold` renders until `release`, and `hang`
    answers no poll until then. It counts its requests by method and part.
    """

    def __init__(self, kind: str = OPENAI, *, port: int = 0) -> None:
        self.kind = kind
        self.counts: Counter[str] = Counter()
        self.forms: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.images: list[bytes] = []
        self.tasks: dict[str, dict[str, Any]] = {}
        self.link: str | None = None
        self.clip_type = "video/mp4"
        self.frames_more = 0
        self._clips: dict[tuple[str, ...], bytes] = {}
        self._released = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), _handler(self))
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=[0.05], daemon=True
        )
        self._thread.start()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def entry(self, name: str = "wan-fast", **query: object) -> str:
        """Return the entry of STILLREEL_ENGINES for it."""
        more = "".join(f"&{key}={value}" for key, value in query.items())
        return f"{name}=openai-videos:{self.base}?model=wan{more}"

    def release(self) -> None:
        self._released.set()

    def forget(self) -> None:
        """Lose every task, as a restart does, because they are kept in memory."""
        with self._lock:
            self.tasks.clear()

    def close(self) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()

    def create(self, form: dict[str, str], image: bytes, headers: dict[str, str]) -> Any:
        with self._lock:
            self.counts["create"] += 1
            self.forms.append(form)
            self.images.append(image)
            self.headers.append(headers)
            words = form.get("prompt", "").split()
            if "refuse" in words:
                return 400, _error("the prompt was refused", "moderation_blocked", self.kind)
            if "busy" in words and self.counts["create"] < 3:
                return 429, _error("too many tasks", "rate_limit_exceeded", self.kind)
            task: dict[str, Any] = {
                "id": f"video_{len(self.tasks) + 1}_{self.port}",
                "object": "video",
                "model": form["model"],
                "status": "queued",
                "progress": 0,
                "created_at": int(time.time()),
                "size": form["size"],
                "seconds": form["seconds"],
                "prompt": form["prompt"],
            }
            self.tasks[task["id"]] = task | {"form": form}
        return 200, task

    def look(self, task_id: str) -> Any:
        with self._lock:
            self.counts["look"] += 1
            task = self.tasks.get(task_id)
        if task is None:
            return 404, _error("no such video", "not_found", self.kind)
        words = task["prompt"].split()
        if "hang" in words:
            self._released.wait(300)
        if "fail" in words:
            failed = {"code": "internal", "message": "CUDA out of memory"}
            if self.kind == VLLM:  # Its GET of a failed video has the status of the exception.
                return 500, {"error": failed}
            return 200, self._shown(task) | {"status": "failed", "error": failed}
        is_done = "hold" not in words or self._released.is_set()
        state = {"status": "completed", "progress": 100, "completed_at": int(time.time())}
        if not is_done:
            state = {"status": "in_progress", "progress": 30}
        link = {"url": self.link} if self.link and is_done else {}
        return 200, self._shown(task) | state | link

    def delete(self, task_id: str) -> Any:
        with self._lock:
            self.counts["delete"] += 1
            task = self.tasks.pop(task_id, None)
        if task is None:
            return 404, _error("no such video", "not_found", self.kind)
        if self.kind == SGLANG:  # It goes on rendering, and says the video's status.
            return 200, self._shown(task) | {"status": "deleted"}
        return 200, {"id": task_id, "object": "video.deleted", "deleted": True}

    def content(self, task_id: str) -> Any:
        with self._lock:
            self.counts["content"] += 1
            task = self.tasks.get(task_id)
        if task is None:
            return 404, _error("no such video", "not_found", self.kind)
        if self.kind == SGLANG and self.link:  # Its clip is in a store of its own.
            return 400, {"detail": "the video was uploaded to a store"}
        return 200, self.clip(task["form"])

    def clip(self, form: dict[str, str]) -> bytes:
        key = tuple(form.get(name, "") for name in ("size", "num_frames", "fps"))
        if key not in self._clips:
            width, height = map(int, form["size"].split("x"))
            count = int(form.get("num_frames", 8)) + self.frames_more
            frames = moving(count, width=width, height=height)
            self._clips[key] = mp4(frames, fps=int(form.get("fps", 8)))
        return self._clips[key]

    def _shown(self, task: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in task.items() if name != "form"}


def _error(message: str, code: str, kind: str) -> dict[str, Any]:
    if kind == SGLANG:  # FastAPI's answer is not in OpenAI's shape there.
        return {"detail": message}
    return {"error": {"message": message, "code": code, "type": code, "param": None}}


@contextlib.contextmanager
def video_server(kind: str = OPENAI, *, port: int = 0) -> Iterator[VideoServer]:
    server = VideoServer(kind, port=port)
    try:
        yield server
    finally:
        server.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: the client was killed, which is what the test does."""


def _handler(server: VideoServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            form, image = _form(self.headers["Content-Type"], body)
            headers = {name.lower(): value for name, value in self.headers.items()}
            self._answer(*server.create(form, image, headers))

        def do_GET(self) -> None:
            task, _, part = self.path.removeprefix("/v1/videos/").partition("/")
            status, body = server.content(task) if part == "content" else server.look(task)
            self._answer(status, body)

        def do_DELETE(self) -> None:
            self._answer(*server.delete(self.path.removeprefix("/v1/videos/")))

        def _answer(self, status: int, body: Any) -> None:
            is_clip = isinstance(body, bytes)
            sent = body if is_clip else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", server.clip_type if is_clip else "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

    return Handler


def _form(content_type: str, body: bytes) -> tuple[dict[str, str], bytes]:
    parser = email.parser.BytesParser(policy=email.policy.HTTP)
    message = parser.parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    form: dict[str, str] = {}
    image = b""
    for part in message.iter_parts():
        name = str(part.get_param("name", header="content-disposition"))
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        if part.get_filename():
            image = content
        else:
            form[name] = content.decode()
    return form, image
