"""One job's progress on one line of the terminal."""

from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from stillreel.command.console import Screen, duration
from stillreel.job import Job


class JobBar:
    """Shows stage, step and time left on stderr; shows nothing if stderr is not a terminal."""

    def __init__(self, screen: Screen) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[left]}", markup=False),
            TimeElapsedColumn(),
            console=screen.err,
            disable=not screen.err.is_terminal,
        )
        self._bar = self._progress.add_task("submitting", total=100, left="")

    def show(self, job: Job) -> None:
        self._progress.update(
            self._bar, description=doing(job), completed=job.progress.percent, left=left(job)
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()


def doing(job: Job) -> str:
    """Return what a job does now: "queued, 3rd in line" or "denoising 12/50"."""
    if job.status == "queued" and job.queue is not None:
        return f"queued, place {job.queue.position}"
    if job.status != "running":
        return job.status
    stage = (job.stage or "starting").replace("_", " ")
    step, total = job.progress.step, job.progress.total_steps
    return f"{stage} {step}/{total}" if step is not None and total else stage


def left(job: Job) -> str:
    """Return how long it will take, if the service knows it."""
    seconds = job.progress.eta_seconds
    if job.status == "queued" and job.queue is not None:
        seconds = job.queue.eta_seconds
    return "" if seconds is None or job.has_ended else f"{duration(seconds)} left"
