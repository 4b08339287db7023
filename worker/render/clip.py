"""One job's clip on its way from the engine to the storage."""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

from shared.errors import BadVideo
from shared.jobs.job import Job
from worker.engines.base import Frames, Image, Notes, Plan
from worker.render.lease import Lease
from worker.video.check import VideoFacts, check_video, is_one_colour
from worker.video.metadata import Tags
from worker.video.writer import Mp4Writer

WARNINGS: Final = "warnings"
"""The key in a plan for sentences that join the job's `warnings`, such as parts of the prompt that
were not read."""


class Clip:
    """One job's clip on its way from the engine to storage.

    From its first frames to `discard` it owns a temporary folder and an ffmpeg in it.
    """

    def __init__(
        self,
        job: Job,
        lease: Lease,
        plan: Plan,
        *,
        source: Image,
        ai_generated: bool,
        notes: Notes | None = None,
    ) -> None:
        self.job = job
        self.lease = lease
        self._plan = {name: value for name, value in plan.items() if name != WARNINGS}
        self._warnings = plan.get(WARNINGS, ())
        self._notes = notes or Notes()
        self.ai_generated = ai_generated
        self.first_frame: Image | None = None
        self.started_at = time.monotonic()
        self.rendered_seconds = 0.0
        self._source_is_flat = is_one_colour(source[None])
        self._folder: Path | None = None
        self._writer: Mp4Writer | None = None

    @property
    def plan(self) -> Plan:
        """The plan that the engine announced, and its notes during the render."""
        return {**self._plan, **self._notes.facts}

    @property
    def warnings(self) -> tuple[str, ...]:
        planned = self._warnings if isinstance(self._warnings, tuple) else (str(self._warnings),)
        return (*planned, *self._notes.warnings)

    def _open(self) -> Mp4Writer:
        """Start ffmpeg in a folder of its own; `discard` is called after it, also on failure."""
        self._folder = Path(tempfile.mkdtemp(prefix="stillreel-"))
        parameters = self.job.parameters
        return Mp4Writer(
            self._folder / "video.mp4",
            width=parameters.width,
            height=parameters.height,
            fps=parameters.fps,
            tags=_tags(self.job, self.plan, self.ai_generated),
        )

    def write(self, frames: Frames) -> None:
        """Append frames as they are decoded; the first frames start ffmpeg."""
        if self._writer is None:
            self._writer = self._open()
        if self.first_frame is None and len(frames):
            self.first_frame = frames[0].copy()
        self._writer.write(frames)

    def rendered(self) -> None:
        self.rendered_seconds = time.monotonic() - self.started_at

    def close(self) -> VideoFacts:
        """Finish the MP4 and check that it has the content that was asked for.

        Raises:
            BadVideo, BlankFrames: it has not.
        """
        if self._writer is None:
            raise BadVideo("the engine gave no frames")
        self._writer.close()
        parameters = self.job.parameters
        return check_video(
            self.path,
            width=parameters.width,
            height=parameters.height,
            num_frames=parameters.num_frames,
            fps=parameters.fps,
            allow_one_colour=self._source_is_flat or not self.ai_generated,
        )

    @property
    def path(self) -> Path:
        return self._opened.path

    def discard(self) -> None:
        """Stop ffmpeg and remove the folder; it may be called again."""
        if self._writer is not None:
            self._writer.abort()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _opened(self) -> Mp4Writer:
        assert self._writer is not None
        return self._writer


def plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _tags(job: Job, plan: Plan, ai_generated: bool) -> Tags:
    """Return tags with which anybody can make this clip again from its file alone."""
    parameters = job.parameters.model_dump(mode="json")
    return Tags(
        settings={
            "engine": job.engine,
            "engine_revision": job.engine_revision,
            "ai_generated": ai_generated,
            **parameters,
            "plan": {name: plain(value) for name, value in plan.items()},
        },
        title=parameters["prompt"],
        description=f"Made by Stillreel's {job.engine} engine with seed {parameters['seed']}",
    )
