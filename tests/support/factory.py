"""Jobs for tests: a test names the values that matter, and the rest is filled in."""

import hashlib
import io
from datetime import timedelta
from typing import Any
from uuid import UUID

import numpy as np
import PIL.Image
from sqlalchemy import text

from bench.noop import NoopEngine
from shared.engines.parameters import RequestedParameters, resolve_parameters
from shared.engines.spec import EngineSpec
from shared.ids import new_id
from shared.jobs.job import Job
from shared.jobs.new_job import NewJob
from shared.jobs.queries import JobQueries
from shared.jobs.storage_keys import input_key
from shared.jobs.transitions import Jobs
from shared.owners import ANONYMOUS
from shared.settings import Settings
from shared.storage import Storage
from tests.support.stack import open_database


class NullAnnouncer:
    """An announcer for tests in which nobody waits; it remembers the announcements."""

    def __init__(self) -> None:
        self.said: list[tuple[UUID, int]] = []

    def publish_change(self, job_id: UUID, version: int, owner_id: UUID) -> None:
        self.said.append((job_id, version))


class JobFixture:
    """Submits jobs as the gateway does, and reads rows directly."""

    def __init__(self, settings: Settings, announcer: Any = None) -> None:
        self.settings = settings
        self.db = open_database(settings, deadline=timedelta(seconds=20))
        self.announcer = announcer or NullAnnouncer()
        self.jobs = Jobs(
            self.db,
            self.announcer,
            lease=settings.lease,
            first_try=settings.first_try,
            max_running=settings.max_running_per_key,
        )
        self.queries = JobQueries(self.db)
        self.storage = Storage(settings)

    def submit(
        self,
        *,
        spec: EngineSpec = NoopEngine.spec,
        image: np.ndarray[Any, np.dtype[np.uint8]] | None = None,
        asked: RequestedParameters | None = None,
        max_queued: int = 100_000,
        daily_seconds: int | None = None,
        **fields: Any,
    ) -> Job:
        """Queue a job; with an image it can be rendered too."""
        job_id = fields.pop("id", None) or new_id()
        if image is not None:
            self.storage.put(input_key(job_id), png(image), content_type="image/png")
        new = new_job(id=job_id, spec=spec, image=image, asked=asked, **fields)
        job, _ = self.jobs.submit(new, max_queued=max_queued, daily_seconds=daily_seconds)
        return job

    def get(self, job: Job) -> Job:
        return self.queries.many([job.id])[job.id]

    def run(self, statement: str, **values: Any) -> Any:
        """Run SQL of the test's own, such as backdating a lease; return the rows."""
        with self.db.begin() as connection:
            result = connection.execute(text(statement), values)
            return result.mappings().all() if result.returns_rows else []

    def close(self) -> None:
        self.storage.close()
        self.db.close()


def new_job(
    *,
    spec: EngineSpec = NoopEngine.spec,
    image: np.ndarray[Any, np.dtype[np.uint8]] | None = None,
    asked: RequestedParameters | None = None,
    **fields: Any,
) -> NewJob:
    """Return the values that a submit of a job writes."""
    pixels = np.full((96, 128, 3), 90, np.uint8) if image is None else image
    height, width, _ = pixels.shape
    values: dict[str, Any] = {
        "id": new_id(),
        "owner_id": ANONYMOUS,
        "engine": spec.name,
        "engine_revision": spec.revision,
        "parameters": resolve_parameters(
            spec, asked or RequestedParameters(), image_width=width, image_height=height, seed=7
        ),
        "image_sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
        "image_width": width,
        "image_height": height,
        "source": "tests",
        "retain": timedelta(days=1),
    }
    return NewJob(**(values | fields))


def png(image: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "PNG", compress_level=1)
    return file.getvalue()
