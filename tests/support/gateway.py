"""A gateway on a free port in a thread, and a worker without a model that does as a test says."""

import asyncio
import base64
import contextlib
import hashlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from datetime import timedelta
from functools import cache
from types import MappingProxyType
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

import pytest
import requests
from fastapi import FastAPI
from PIL import Image as PillowImage
from sqlalchemy import delete, text

from api.__main__ import Server, listen
from api.app import create_app
from api.concurrency.turns import Turns
from api.limits import GatewayLimits
from api.ports import Ports
from shared.bell import SOCKET_SECONDS, Bell
from shared.engines.registry import EngineRegistry, WorkerInfo
from shared.engines.spec import EngineSpec, Licence, Preset, Shape
from shared.engines.weights import WeightsView
from shared.errors import AppError
from shared.jobs.job import Artifact, Job, Result, Variant
from shared.jobs.storage_keys import output_key
from shared.jobs.transitions import Claim, Jobs, Progress
from shared.lifecycle import Stage
from shared.settings import Settings
from shared.storage import Storage
from shared.tables.figures import usage_days
from shared.tables.jobs import batches, jobs, uploads
from shared.tables.webhooks import deliveries, delivery_attempts
from shared.tables.workers import engines, pauses, workers
from tests.support.photos import cat
from tests.support.processes import until
from tests.support.stack import Stack, open_database

ADMIN_KEY = "the-admin-key-of-the-tests"

PATIENCE: Final = timedelta(seconds=25)
PATIENT: Final = GatewayLimits(
    database=PATIENCE,
    database_patience_seconds=PATIENCE.seconds,
    keys=PATIENCE,
    keys_patience_seconds=PATIENCE.seconds,
    lane_seconds=PATIENCE.seconds,
    database_lane_seconds=PATIENCE.seconds,
    poll_seconds=PATIENCE.seconds,
    storage_read=PATIENCE,
    census=PATIENCE,
    part=PATIENCE,
    redis_probe_seconds=PATIENCE.seconds,
)
"""The limits of a gateway that waits long for a service, a thread or the keys. The shipped one
waits for 0.3 to 5 s, and on a machine that stalls, requests that must succeed would be 503s."""

LICENCE = Licence(name="Apache-2.0", commercial_use="yes")

MOVES = EngineSpec(
    name="moves",
    title="Moves",
    description="Stands in for an engine that reads text and uses no model.",
    revision="1",
    ai_generated=False,
    uses_prompt=True,
    needs_gpu=False,
    shape=Shape.KEEP,
    multiple=2,
    licence=LICENCE,
    presets=(Preset(name="draft", num_frames=8),),
)
MODEL = MOVES.model_copy(
    update={
        "name": "model",
        "title": "Model",
        "ai_generated": True,
        "prompt_required": True,
        "shape": Shape.BUCKETS,
        "multiple": 64,
    }
)


# One trip clears all tables. It is quicker than TRUNCATE, which makes files for a dozen indexes.
_CLEAR: Final = text(
    "; ".join(
        str(delete(table))
        for table in (
            *(delivery_attempts, deliveries, jobs, batches, usage_days, pauses),
            *(uploads, workers, engines),
        )
    )
)


class FakeWorker:
    """A worker that the test plays: it claims, beats and completes when told to."""

    def __init__(self, settings: Settings, *, bell_seconds: float = SOCKET_SECONDS) -> None:
        self._bell = Bell(settings.redis_url.get_secret_value(), socket_seconds=bell_seconds)
        self.db = open_database(settings, deadline=settings.lease)
        self.jobs = Jobs(self.db, self._bell, lease=settings.lease, first_try=settings.first_try)
        self.registry = EngineRegistry(self.db)
        self.storage = Storage(settings, read=2 * PATIENCE)

    @classmethod
    @contextlib.contextmanager
    def on(cls, stack: Stack) -> Iterator["FakeWorker"]:
        """Yield a fake worker that serves `moves` and `model` on a stack of its own."""
        hand = cls(stack.settings())
        hand.offer(MOVES, MODEL)
        try:
            yield hand
        finally:
            hand.close()

    def offer(
        self,
        *specs: EngineSpec,
        name: str = "hand",
        weights: Mapping[str, WeightsView] = MappingProxyType({}),
    ) -> None:
        """Be a live worker that serves these engines, best first."""
        self.registry.offer(specs)
        self.registry.beat(
            WorkerInfo(
                name=name,
                host="here",
                pid=1,
                device="cpu",
                device_name=None,
                vram_bytes=None,
                engines=[spec.name for spec in specs],
                resident_engine=None,
                state="ready",
                model_loads=0,
                weights=weights,
            )
        )

    def claim(self, engine: str = MOVES.name) -> Job:
        """Take the next queued job, which may not be committed yet."""
        ends_at = time.monotonic() + 60
        while (job := self.jobs.claim([engine], worker="hand")) is None:
            assert time.monotonic() < ends_at, "nothing was queued"
            time.sleep(0.005)
        return job

    def beat(self, job: Job, step: int, total: int = 10, stage: Stage = Stage.DENOISING) -> None:
        progress = Progress(stage=stage, step=step, total_steps=total, eta_seconds=40.0)
        self.jobs.beat(Claim(job.id, job.attempt), progress)

    def complete(self, job: Job, video: bytes = b"an mp4", **metrics: Any) -> Job:
        """Store a file for the video and each output asked for, and publish them."""
        artifacts = {Variant.VIDEO: self._store(job, ".mp4", "video/mp4", video)}
        for output in job.outputs:
            kind = "image/gif" if output == "gif" else "image/webp"
            artifacts[Variant(output)] = self._store(job, f".{output}", kind, output.encode())
        result = Result(ai_generated=False, artifacts=artifacts)
        return self.jobs.complete(
            Claim(job.id, job.attempt), result, {"render_seconds": 1.0, **metrics}
        )

    def fail(self, job: Job, error: AppError) -> Job:
        return self.jobs.fail(Claim(job.id, job.attempt), error, retryable=False, metrics={})

    def clear(self) -> None:
        with self.db.begin() as connection:
            connection.execute(_CLEAR)
        self.storage.delete_prefix("")

    def close(self) -> None:
        self._bell.close()
        self.storage.close()
        self.db.close()

    def _store(self, job: Job, suffix: str, content_type: str, body: bytes) -> Artifact:
        key = output_key(job.id, job.attempt, suffix)
        self.storage.put(key, body, content_type=content_type)
        return Artifact(
            key=key,
            content_type=content_type,
            bytes=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
            width=job.parameters.width,
            height=job.parameters.height,
            fps=job.parameters.fps,
            num_frames=job.parameters.num_frames,
        )


class Watched(Server):
    """A server on whose event loop a test may run code."""

    loop: asyncio.AbstractEventLoop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)


class Gateway:
    """A gateway that answers at `url`; paths begin with a slash, and ADMIN_KEY is sent if set."""

    def __init__(self, settings: Settings, limits: GatewayLimits = PATIENT) -> None:
        """A gateway with SHIPPED limits gives up on services as soon as users are promised."""
        self._start(create_app(settings, limits))
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = requests.Session()
        self.http.trust_env = False  # It would read all of the environment at each request.
        if settings.admin_key is not None:
            self.http.headers["Authorization"] = f"Bearer {settings.admin_key.get_secret_value()}"

    def _start(self, app: FastAPI) -> None:
        listener = listen("127.0.0.1", 0)
        self.port: int = listener.getsockname()[1]
        self._server = Watched(app)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, daemon=True
        )
        self._thread.start()
        ends_at = time.monotonic() + 60
        while not self._server.started:
            assert self._thread.is_alive(), "the gateway ended while it started"
            assert time.monotonic() < ends_at
            self._thread.join(0.01)
        self.ports: Ports = app.state.ports

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.http.get(f"{self.url}{path}", timeout=30, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.http.post(f"{self.url}{path}", timeout=30, **options)

    def create(self, **fields: Any) -> requests.Response:
        """POST /v1/jobs as a multipart form; `image` and `headers` do not become fields of it."""
        headers, image = fields.pop("headers", {}), fields.pop("image", None)
        files = {"image": ("photo.png", photo_png() if image is None else image)}
        return self.post("/v1/jobs", data=fields, files=files, headers=headers)

    def created(self, **fields: Any) -> dict[str, Any]:
        """Create a job that must be accepted, and return its body."""
        answer = self.create(**fields)
        assert answer.status_code == 202, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def wait_until_idle(self) -> None:
        """Wait for the end of every request, also those of clients that have disconnected."""
        # These connections were accepted before this one.
        requests.get(f"{self.url}/livez", timeout=30)
        until(lambda: not self._server.server_state.tasks, "no request is at work")

    @contextlib.contextmanager
    def holding(self, turns: Turns, units: int, *, owners: int = 1) -> Iterator[None]:
        """Let this many other owners use `units` of a resource meanwhile, in equal parts."""

        async def take() -> list[tuple[UUID, int]]:
            part, rest = divmod(units, owners)
            parts = [(uuid4(), part + (rest if not number else 0)) for number in range(owners)]
            return [(owner_id, await turns.take(owner_id, part)) for owner_id, part in parts]

        async def give_back() -> None:
            for owner_id, part in taken:
                turns.give_back(owner_id, part)

        taken = asyncio.run_coroutine_threadsafe(take(), self._server.loop).result(30)
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(give_back(), self._server.loop).result(30)

    def begin_to_stop(self) -> None:
        self._server.should_exit = True

    def close(self) -> None:
        self.begin_to_stop()
        self._thread.join(timeout=60)
        self.http.close()
        assert not self._thread.is_alive(), "the gateway did not stop"


@contextlib.contextmanager
def running_gateway(settings: Settings, limits: GatewayLimits = PATIENT) -> Iterator[Gateway]:
    gateway = Gateway(settings, limits)
    try:
        yield gateway
    finally:
        gateway.close()


@pytest.fixture(scope="module")
def one_fake_worker(module_stack: Stack) -> Iterator[FakeWorker]:
    hand = FakeWorker(module_stack.settings())
    yield hand
    hand.close()


@pytest.fixture(scope="module")
def one_gateway(module_stack: Stack) -> Iterator[Gateway]:
    with running_gateway(module_stack.settings()) as gateway:
        yield gateway


@pytest.fixture
def fake_worker(one_fake_worker: FakeWorker) -> FakeWorker:
    """A live worker that serves `moves` and `model`, with no job and no file yet."""
    one_fake_worker.clear()
    one_fake_worker.offer(MOVES, MODEL)
    return one_fake_worker


@pytest.fixture
def gateway(one_gateway: Gateway, fake_worker: FakeWorker) -> Gateway:
    """The gateway of this module, on the services that `hand` uses."""
    return one_gateway


T = TypeVar("T")


def beside(work: Callable[[], T]) -> "Future[T]":
    """Run the work in a thread of its own."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def without_storage(stack: Stack) -> Settings:
    """Return settings whose storage refuses every connection."""
    return stack.settings(s3_endpoint="http://127.0.0.1:9")


def without_database(stack: Stack) -> Settings:
    """Return settings whose Postgres refuses every connection."""
    return stack.settings(database_url="postgresql+psycopg://nobody@127.0.0.1:9/nothing")


@cache
def photo_png(*, size: tuple[int, int] | None = None) -> bytes:
    """Return a photograph as PNG, by default 96 x 64."""
    image = PillowImage.fromarray(cat()).resize(size or (96, 64))
    return encoded(image, "PNG")


def encoded(image: PillowImage.Image, kind: str, **options: Any) -> bytes:
    body = io.BytesIO()
    image.save(body, kind, **options)
    return body.getvalue()


def data_uri(body: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(body).decode()}"
