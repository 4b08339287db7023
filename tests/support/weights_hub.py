"""A hub on loopback that serves folders like the Hugging Face hub and ModelScope, with faults.

The tree lists large files with their sha256 and small ones with git's hash, as the real one does;
large files are served by a redirect to another host.
"""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

COMMIT: Final = "0123456789abcdef0123456789abcdef01234567"
LARGE: Final = ".safetensors"
PIECE: Final = 64 * 1024


@dataclass
class Faults:
    """The faults of the hub, by path or for all."""

    status: int | None = None  # of every answer
    gated: bool = False  # without the token, or with another
    token: str | None = None
    no_tree: bool = False  # an HTML page in its place
    cut_after: dict[str, list[int]] = field(default_factory=dict)  # bytes of each answer
    ignores_ranges: bool = False
    wrong: dict[str, int] = field(default_factory=dict)  # so many answers have a byte flipped
    short: dict[str, int] = field(default_factory=dict)  # honest length, bytes less
    paged: bool = False  # the tree in two, the second at the other host
    own_redirect: bool = False  # mirrors send on within their own host
    xet: bool = False  # passes on headers of a store that it cannot reach
    hold_after: int | None = None  # bytes of a large file, then nothing until `go`


@dataclass
class WeightsHub:
    """Repositories by id; the requests, the answers, and their number of bytes."""

    url: str = ""
    store: str = ""
    repositories: dict[str, Path] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    asked: list[str] = field(default_factory=list)
    given: dict[str, int] = field(default_factory=dict)
    starts: dict[str, list[int]] = field(default_factory=dict)  # first byte of each answer
    tokens: dict[str, set[str]] = field(default_factory=dict)  # by host
    go: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def files_given(self) -> set[str]:
        return set(self.given)

    @property
    def bytes_given(self) -> int:
        return sum(self.given.values())

    def forget(self) -> None:
        self.asked.clear()
        self.given.clear()


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def tree(folder: Path) -> list[dict[str, Any]]:
    """Return a repository's tree in the form of the hub's API."""
    entries: list[dict[str, Any]] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            entries.append({"type": "directory", "path": name, "size": 0, "oid": "0" * 40})
            continue
        content = path.read_bytes()
        entry = {"type": "file", "path": name, "size": len(content), "oid": git_sha1(content)}
        if path.suffix == LARGE:
            entry["oid"] = "1" * 40  # of the pointer
            named = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": named, "size": len(content), "pointerSize": 134}
        entries.append(entry)
    return entries


def modelscope_files(folder: Path) -> list[dict[str, Any]]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [
        {
            "Path": path.relative_to(folder).as_posix(),
            "Type": "blob",
            "Size": path.stat().st_size,
            "Sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in files
    ]


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Print nothing about a download that was stopped or cut."""


@contextlib.contextmanager
def weights_hub(**repositories: Path) -> Iterator[WeightsHub]:
    """Serve folders; large files are redirected to another host."""
    hub = WeightsHub(repositories=dict(repositories))
    servers = [Server((host, 0), partial(Answers, hub)) for host in ("127.0.0.1", "127.0.0.2")]
    threads = [
        threading.Thread(target=each.serve_forever, args=(0.05,), daemon=True) for each in servers
    ]
    for thread in threads:
        thread.start()
    hub.url, hub.store = (
        f"http://{host}:{each.server_port}"
        for host, each in zip(("127.0.0.1", "127.0.0.2"), servers, strict=True)
    )
    try:
        yield hub
    finally:
        hub.go.set()
        for each in servers:
            each.shutdown()
            each.server_close()
        for thread in threads:
            thread.join(timeout=10)


class Answers(BaseHTTPRequestHandler):
    """One connection to a hub."""

    protocol_version = "HTTP/1.1"

    def __init__(self, hub: WeightsHub, *given: Any) -> None:
        self.hub = hub
        super().__init__(*given)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        with self.hub.lock:
            self.hub.asked.append(self.path)
            host = self.headers["Host"].partition(":")[0]
            self.hub.tokens.setdefault(host, set()).add(self.headers.get("Authorization", ""))
        if self.hub.faults.status is not None:
            self.send_text(self.hub.faults.status, b"<html>bad gateway</html>")
            return
        parts = url.path.strip("/").split("/")
        match parts:
            case ["api", "models", owner, name, "tree", _]:
                self.send_tree(f"{owner}/{name}")
            case ["api", "models", owner, name, "revision", _]:
                self.send_json({"id": f"{owner}/{name}", "sha": COMMIT})
            case ["api", "v1", "models", owner, name, "repo", "files"]:
                folder = self.hub.repositories[f"{owner}/{name}"]
                self.send_json({"Success": True, "Data": {"Files": modelscope_files(folder)}})
            case ["api", "v1", "models", owner, name, "repo"]:
                path = parse_qs(url.query)["FilePath"][0]
                self.send_file(f"{owner}/{name}", path)
            case [owner, name, "resolve", _, *rest]:
                self.resolve(f"{owner}/{name}", "/".join(rest))
            case ["store", owner, name, *rest]:
                self.send_file(f"{owner}/{name}", "/".join(rest))
            case _:
                self.send_text(404, b"not found")

    def send_tree(self, repository: str) -> None:
        if self.hub.faults.no_tree:
            self.send_text(200, b"<html>a login page</html>")
        elif repository not in self.hub.repositories:
            self.send_text(404, b"Repository not found", {"X-Error-Code": "RepoNotFound"})
        elif not self.hub.faults.paged:
            self.send_json(tree(self.hub.repositories[repository]))
        else:
            entries = tree(self.hub.repositories[repository])
            if "cursor" in self.path:
                self.send_json(entries[3:])
                return
            path = urlsplit(self.path).path
            following = f'<{self.hub.store}{path}?cursor=3>; rel="next"'
            self.send_text(200, json.dumps(entries[:3]).encode(), {"Link": following})

    def resolve(self, repository: str, path: str) -> None:
        allowed = f"Bearer {self.hub.faults.token}"
        if self.hub.faults.gated and self.headers.get("Authorization") != allowed:
            said = {"X-Error-Code": "GatedRepo"}
            self.send_text(401 if "Authorization" not in self.headers else 403, b"no", said)
            return
        if not path.endswith(LARGE):
            self.send_file(repository, path)
            return
        host = self.hub.url if self.hub.faults.own_redirect else self.hub.store
        headers = {"Location": f"{host}/store/{repository}/{path}"}
        if self.hub.faults.xet:
            headers["X-Xet-Hash"] = "0" * 64
            headers["Link"] = '<http://127.0.0.1:9/xet>; rel="xet-auth"'
        self.send_text(302, b"", headers)

    def send_file(self, repository: str, path: str) -> None:
        content = (self.hub.repositories[repository] / path).read_bytes()
        first = 0
        asked = self.headers.get("Range")
        if asked and not self.hub.faults.ignores_ranges:
            first = int(asked.removeprefix("bytes=").partition("-")[0])
        with self.hub.lock:
            self.hub.starts.setdefault(path, []).append(first)
        body = content[first:]
        if self.hub.faults.wrong.get(path, 0) > 0:
            self.hub.faults.wrong[path] -= 1
            body = bytes([body[0] ^ 1]) + body[1:]
        body = body[: len(body) - self.hub.faults.short.get(path, 0)]
        status = 206 if first else 200
        headers = {"Content-Range": f"bytes {first}-/{len(content)}"} if first else {}
        self.start(status, len(body), {"Content-Type": "application/octet-stream", **headers})
        cuts = self.hub.faults.cut_after.get(path)
        sent = body[: cuts.pop(0)] if cuts else body
        self.write_slowly(path, sent)
        self.close_connection = len(sent) < len(body)

    def write_slowly(self, path: str, body: bytes) -> None:
        for start in range(0, len(body), PIECE):
            limit = self.hub.faults.hold_after
            if limit is not None and path.endswith(LARGE) and start >= limit:
                self.wfile.flush()
                self.hub.go.wait(timeout=60)
            piece = body[start : start + PIECE]
            self.wfile.write(piece)
            with self.hub.lock:
                self.hub.given[path] = self.hub.given.get(path, 0) + len(piece)

    def send_json(self, value: object) -> None:
        self.send_text(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send_text(self, status: int, body: bytes, headers: "dict[str, str] | None" = None) -> None:
        self.start(status, len(body), headers or {})
        self.wfile.write(body)

    def start(self, status: int, size: int, headers: "dict[str, str]") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(size)}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""
