"""A store in memory that stores, lists and deletes like S3, and refuses what a test names."""

import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from xml.etree import ElementTree
from xml.sax.saxutils import escape

NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


class StubbornStore:
    """Answers at `url`; it will not delete the keys in `kept`, and stores nothing if `is_full`.

    `hung_up` makes it close every connection without an answer, as a proxy without its store does.
    `on_delete` is called before a delete, and `on_refusal` after a refused one.
    """

    def __init__(self) -> None:
        self.objects: set[str] = set()
        self.kept: set[str] = set()
        self.is_full = False
        self.hung_up = False
        self.on_refusal: Callable[[], object] | None = None
        self.on_delete: Callable[[], object] | None = None
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()

        class Handler(_Handler):
            store = self

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def hang_up(self) -> None:
        self.hung_up = True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)


class _Handler(BaseHTTPRequestHandler):
    store: StubbornStore
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        if self.store.hung_up:
            self.close_connection = True
            return
        super().handle_one_request()

    def log_message(self, format: str, *values: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._begin()
        self._answer(200)

    def do_PUT(self) -> None:
        key, _ = self._begin()
        if self.store.is_full:
            self._answer(503, _error("InternalError"))
            return
        with self.store.lock:
            self.store.objects.add(key)
        self._answer(200)

    def do_GET(self) -> None:
        _, query = self._begin()
        with self.store.lock:
            keys = sorted(
                key
                for key in self.store.objects
                if key.startswith(query.get("prefix", "")) and key > query.get("start-after", "")
            )
        page = keys[: int(query.get("max-keys", "1000"))]
        listed = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in page)
        body = f"<IsTruncated>false</IsTruncated>{listed}"
        self._answer(200, f"<ListBucketResult {NAMESPACE}>{body}</ListBucketResult>")

    def do_DELETE(self) -> None:
        key, _ = self._begin()
        if self.store.on_delete:
            self.store.on_delete()
        if self.store.hung_up:
            self.close_connection = True
        elif self._keeps(key):
            self._answer(403, _error("AccessDenied"))
        else:
            self._answer(204)

    def do_POST(self) -> None:
        """Delete many: the refusals are inside an answer of 200."""
        _, _ = self._begin()
        named = [node.text or "" for node in self.body.iter() if node.tag.endswith("Key")]
        refused = "".join(
            f"<Error><Key>{escape(key)}</Key><Code>AccessDenied</Code></Error>"
            for key in named
            if self._keeps(key)
        )
        self._answer(200, f"<DeleteResult {NAMESPACE}>{refused}</DeleteResult>")

    def _begin(self) -> tuple[str, dict[str, str]]:
        """Read the request; return the key, and what follows the question mark."""
        self.store.asked[self.command] += 1
        url = urllib.parse.urlsplit(self.path)
        key = urllib.parse.unquote(url.path).lstrip("/").partition("/")[2]
        sent = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.command == "POST":
            self.body = ElementTree.fromstring(sent)  # noqa: S314 (our own client's)
        return key, dict(urllib.parse.parse_qsl(url.query))

    def _keeps(self, key: str) -> bool:
        with self.store.lock:
            is_kept = key in self.store.kept
            if not is_kept:
                self.store.objects.discard(key)
        if is_kept and self.store.on_refusal:
            self.store.on_refusal()
        return is_kept

    def _answer(self, status: int, body: str = "") -> None:
        sent = body.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)


def _error(code: str) -> str:
    return f"<Error><Code>{code}</Code><Message>no</Message></Error>"
