"""The end of a job: mux, check, upload, complete, while the next job already renders."""

import hashlib
import io
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from PIL.GifImagePlugin import GifImageFile

from shared.crashpoints import crashpoint
from shared.errors import DatabaseUnavailable
from shared.jobs.job import Artifact, Job, Result, Variant
from shared.jobs.storage_keys import output_key
from shared.jobs.transitions import Jobs
from shared.lifecycle import Stage
from shared.storage import Storage
from worker.render.clip import WARNINGS, Clip, plain
from worker.render.lease import Lease
from worker.render.storage_retry import FIRST_PAUSE_SECONDS, UPLOAD_SECONDS, retry_storage
from worker.video.check import VideoFacts
from worker.video.previews import gif, poster, sprite_sheet

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Upload:
    variant: Variant
    suffix: str
    content_type: str
    body: bytes | Path
    artifact: Mapping[str, Any]


class Finisher:
    """Finishes each clip in its own thread, in few places, mostly one; the next clip waits."""

    def __init__(
        self,
        jobs: Jobs,
        storage: Storage,
        *,
        settle: Callable[[Lease, Exception], None],
        release: Callable[[Lease], None],
        places: int = 1,
    ) -> None:
        """`settle` ends a job whose finishing failed; `release` always ends its lease."""
        self._jobs = jobs
        self._storage = storage
        self._settle = settle
        self._release = release
        self._places = places
        self._free = threading.Semaphore(places)

    def finish(self, clip: Clip) -> None:
        """Hand over a rendered clip; wait, with its lease alive, while no place is free."""
        clip.lease.enter(Stage.MUXING)
        while not self._free.acquire(timeout=1):
            clip.lease.touch()
            clip.lease.check()
        try:
            threading.Thread(target=self._run, args=[clip], name="tail").start()
        except BaseException:
            # No thread will release it, because the process has too many threads.
            self._free.release()
            raise

    def wait(self) -> bool:
        """Wait until every place is free; say whether there was anything to wait for."""
        was_busy = False
        for _ in range(self._places):
            if not self._free.acquire(blocking=False):
                was_busy = True
                self._free.acquire()
        for _ in range(self._places):
            self._free.release()
        return was_busy

    def _run(self, clip: Clip) -> None:
        structlog.contextvars.bind_contextvars(
            job=clip.job.public_id, attempt=clip.job.attempt, request_id=clip.job.request_id
        )
        try:
            self._complete(clip)
        except Exception as error:  # The edge of this thread: a job must not be lost with it.
            self._settle(clip.lease, error)
        finally:
            clip.discard()
            self._release(clip.lease)
            self._free.release()

    def _complete(self, clip: Clip) -> None:
        started = time.monotonic()
        facts = clip.close()
        crashpoint("muxed")
        uploads = _uploads(clip, facts)
        clip.lease.enter(Stage.UPLOADING, total=len(uploads))
        artifacts = {upload.variant: self._upload(clip, upload) for upload in uploads}
        metrics = _metrics(clip, tail_seconds=time.monotonic() - started)
        result = Result(ai_generated=clip.ai_generated, artifacts=artifacts)
        # Kept beside the plan, because they may quote the prompt, and the logged plan never does.
        self._publish(clip, result, metrics | {WARNINGS: plain(clip.warnings)})
        crashpoint("completed")
        _log.info("job_succeeded", engine=clip.job.engine, **metrics)

    def _upload(self, clip: Clip, upload: _Upload) -> Artifact:
        """Store one file and wait out an outage; the lease stays alive meanwhile."""
        key = output_key(clip.job.id, clip.job.attempt, upload.suffix)
        crashpoint("before_upload")
        retry_storage(
            clip.lease,
            lambda: self._storage.put(key, upload.body, content_type=upload.content_type),
            within=UPLOAD_SECONDS,
            key=key,
            failure=f"the finished clip could not be stored for {UPLOAD_SECONDS:.0f} seconds",
        )
        crashpoint("after_upload")
        clip.lease.touch()
        clip.lease.check()
        return Artifact(key=key, content_type=upload.content_type, **upload.artifact)

    def _publish(self, clip: Clip, result: Result, metrics: Mapping[str, Any]) -> None:
        """Complete the job; if an answer was lost, first read whether the job was completed."""
        claim = clip.lease.claim
        ends_at = time.monotonic() + UPLOAD_SECONDS
        answer_lost = False
        while True:
            try:
                if not (answer_lost and self._jobs.has_published(claim)):
                    self._jobs.complete(claim, result, metrics)
                return
            except DatabaseUnavailable:
                answer_lost = True
                if time.monotonic() > ends_at:
                    raise
                time.sleep(FIRST_PAUSE_SECONDS)


def _uploads(clip: Clip, facts: VideoFacts) -> list[_Upload]:
    """Return the video and the other files that the job asked for."""
    video = {
        "bytes": facts.bytes,
        "sha256": facts.sha256,
        "width": facts.width,
        "height": facts.height,
        "fps": facts.fps,
        "num_frames": facts.num_frames,
        "duration_seconds": facts.duration_seconds,
    }
    uploads = [_Upload(Variant.VIDEO, ".mp4", "video/mp4", clip.path, video)]
    makers = {Variant.POSTER: _poster, Variant.GIF: _gif, Variant.SPRITESHEET: _sprites}
    for variant, make in makers.items():
        if variant in clip.job.outputs:
            clip.lease.touch()
            uploads.append(make(clip, facts))
    return uploads


def _poster(clip: Clip, facts: VideoFacts) -> _Upload:
    assert clip.first_frame is not None
    body = poster(clip.first_frame)
    height, width, _ = clip.first_frame.shape
    return _Upload(
        Variant.POSTER,
        ".webp",
        "image/webp",
        body,
        {**_bytes(body), "width": width, "height": height},
    )


def _gif(clip: Clip, facts: VideoFacts) -> _Upload:
    body = gif(clip.path, facts)
    # The sheet of a short clip has fewer frames than this.
    with GifImageFile(io.BytesIO(body)) as image:
        shown = {"width": image.width, "height": image.height, "num_frames": image.n_frames}
    return _Upload(Variant.GIF, ".gif", "image/gif", body, {**_bytes(body), **shown})


def _sprites(clip: Clip, facts: VideoFacts) -> _Upload:
    sheet = sprite_sheet(clip.path, facts)
    layout = {
        "columns": sheet.columns,
        "rows": sheet.rows,
        "width": sheet.columns * sheet.tile_width,
        "height": sheet.rows * sheet.tile_height,
        "num_frames": sheet.num_frames,
    }
    return _Upload(
        Variant.SPRITESHEET,
        ".sprites.webp",
        "image/webp",
        sheet.image,
        {**_bytes(sheet.image), **layout},
    )


def _bytes(body: bytes) -> dict[str, Any]:
    return {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def _metrics(clip: Clip, *, tail_seconds: float) -> dict[str, Any]:
    return {
        "queue_seconds": round(_queue_seconds(clip.job), 3),
        "load_seconds": round(clip.lease.load_seconds, 3),
        "render_seconds": round(clip.rendered_seconds, 3),
        "tail_seconds": round(tail_seconds, 3),
        "worker": clip.job.worker,
        "engine_revision": clip.job.engine_revision,
        "plan": {name: plain(value) for name, value in clip.plan.items()},
    }


def _queue_seconds(job: Job) -> float:
    """Return the job's wait since it was last queued and due, without its earlier renders."""
    since = max(job.created_at, job.due_at)
    return 0.0 if job.started_at is None else max(0.0, (job.started_at - since).total_seconds())
