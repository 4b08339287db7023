"""The bucket step on other people's stores: other regions, keys with few rights, proxies."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr

from deploy.make_bucket import make_bucket
from shared.errors import StorageUnavailable
from shared.settings import Settings
from shared.storage import Storage
from tests.support.stack import ROOT

BUCKET = "theirs"


@dataclass
class Store:
    """A store with one bucket, which answers as AWS does."""

    region: str = "us-east-1"
    may_make: bool = True
    may_look: bool = True
    has_bucket: bool = False
    refuses_with: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    made_with: list[bytes] = field(default_factory=list)

    def make(self, body: bytes) -> tuple[int, str]:
        if not self.may_make:
            return 403, "AccessDenied"
        if self.has_bucket:
            return 409, "BucketAlreadyOwnedByYou"
        said = self.region.encode() in body
        if body and (self.region == "us-east-1" or not said):
            return 400, "InvalidLocationConstraint"
        if not body and self.region != "us-east-1":
            return 400, "IllegalLocationConstraintException"
        self.made_with.append(body)
        self.has_bucket = True
        return 200, ""

    def look(self) -> int:
        return 403 if not self.may_look else 200 if self.has_bucket else 404


def handler(store: Store) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def say(self, status: int, body: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def error(self, status: int, code: str) -> None:
            self.say(status, f"<Error><Code>{code}</Code></Error>".encode() if code else b"")

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == f"/{BUCKET}":
                self.error(*store.make(body))
            elif store.refuses_with:
                self.error(403, store.refuses_with)
            elif store.has_bucket:
                store.objects[self.path] = body
                self.say(200)
            else:
                self.error(404, "NoSuchBucket")

        def do_GET(self) -> None:
            if self.path in store.objects:
                self.say(200, store.objects[self.path])
            else:
                self.error(404, "NoSuchKey")

        def do_HEAD(self) -> None:
            self.say(store.look())

        def do_DELETE(self) -> None:
            store.objects.pop(self.path, None)
            self.say(204)

    return Handler


@contextlib.contextmanager
def served(store: Store) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(store))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def asking(store: Store, *, region: str = "us-east-1", key: str = "a") -> Iterator[Storage]:
    """Yield a client of the store."""
    with served(store) as address:
        settings = Settings(
            _env_file=None,
            s3_endpoint=address,
            s3_bucket=BUCKET,
            s3_region=region,
            s3_access_key=SecretStr(key),
            s3_secret_key=SecretStr(key),
        )
        with contextlib.closing(Storage(settings, read=timedelta(seconds=10))) as storage:
            yield storage


def step(store: Store, *, region: str) -> None:
    """Run the bucket step once."""
    with asking(store, region=region) as storage:
        make_bucket(storage)


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1", "cn-northwest-1"])
def test_a_bucket_is_made_in_the_region_of_the_settings(region: str) -> None:
    store = Store(region=region)
    step(store, region=region)
    assert store.has_bucket
    assert store.objects == {}
    assert [region.encode() in body for body in store.made_with] == [region != "us-east-1"]


@pytest.mark.parametrize("may_look", [True, False], ids=["may look", "may not look"])
def test_a_key_that_makes_no_buckets_uses_the_one_that_is_there(may_look: bool) -> None:
    store = Store(region="eu-central-1", may_make=False, may_look=may_look, has_bucket=True)
    step(store, region="eu-central-1")
    assert store.objects == {}


def test_a_key_that_may_not_make_the_missing_bucket_is_told_so() -> None:
    with pytest.raises(
        StorageUnavailable, match=r"does not let this key make the bucket 'theirs'"
    ):
        step(Store(may_make=False), region="us-east-1")


def test_a_wrong_region_is_told_with_its_setting() -> None:
    with pytest.raises(StorageUnavailable, match=r"'us-west-2'; set STILLREEL_S3_REGION"):
        step(Store(region="eu-central-1"), region="us-west-2")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("SignatureDoesNotMatch", "STILLREEL_S3_SECRET_KEY is not that key's"),
        ("SlowDown", "try again"),
        *(
            pytest.param(*pair, marks=pytest.mark.extended)
            for pair in (
                ("InvalidAccessKeyId", "STILLREEL_S3_ACCESS_KEY is not known there"),
                ("AccessDenied", "STILLREEL_S3_ACCESS_KEY may not do this there"),
                ("AuthorizationHeaderMalformed", "STILLREEL_S3_REGION is not the bucket's"),
                ("RequestTimeTooSkewed", "this machine's clock and the store's differ too much"),
            )
        ),
    ],
)
def test_a_refusal_names_the_setting_that_it_is_about(code: str, said: str) -> None:
    with (
        asking(Store(has_bucket=True, refuses_with=code)) as storage,
        pytest.raises(StorageUnavailable, match=f"refused with {code}; {said}"),
    ):
        storage.put("key", b"x", content_type="text/plain")


def test_a_missing_bucket_is_a_store_that_is_away_and_not_a_file_that_is_gone() -> None:
    """A keeper waits for an absent store, but logs a traceback each second for a missing file."""
    with asking(Store()) as storage:
        for ask in (storage.check, lambda: storage.put("key", b"x", content_type="text/plain")):
            with pytest.raises(StorageUnavailable, match="STILLREEL_S3_BUCKET names no bucket"):
                ask()


def test_a_store_without_a_key_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with (
        asking(Store(has_bucket=True), key="") as storage,
        pytest.raises(StorageUnavailable, match="STILLREEL_S3_SECRET_KEY are not set"),
    ):
        storage.put("key", b"x", content_type="text/plain")


@pytest.mark.parametrize(
    "name",
    [
        "HTTP_PROXY",
        *(
            pytest.param(name, marks=pytest.mark.extended)
            for name in ("http_proxy", "ALL_PROXY", "all_proxy")
        ),
    ],
)
def test_the_store_is_never_asked_through_a_proxy_of_the_environment(name: str) -> None:
    store = Store()
    with served(store) as address, socket.create_server(("127.0.0.1", 0)) as proxy:
        clean = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
        done = subprocess.run(
            [sys.executable, "-m", "deploy.make_bucket"],
            cwd=ROOT,
            env={
                **clean,
                name: f"http://127.0.0.1:{proxy.getsockname()[1]}",
                "STILLREEL_S3_ENDPOINT": address.replace("127.0.0.1", "localhost"),
                "STILLREEL_S3_BUCKET": BUCKET,
                "STILLREEL_S3_ACCESS_KEY": "a",
                "STILLREEL_S3_SECRET_KEY": "b",
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()
    assert store.has_bucket
