"""`stillreel submit`: one photo, one clip."""

from argparse import Namespace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from stillreel.client import Client
from stillreel.command.console import Screen
from stillreel.command.fields import UsageError, fields_of
from stillreel.command.progress import JobBar
from stillreel.ending import without_clip
from stillreel.errors import Conflict, StillreelError
from stillreel.job import Job
from stillreel.photo import is_url


def run(client: Client, typed: Namespace, screen: Screen) -> int:
    fields = fields_of(typed)
    target = None if typed.no_wait else place_for(typed.photo, typed.output)
    try:
        job = client.submit(typed.photo, typed.prompt, **fields)
    except KeyboardInterrupt:
        screen.note(
            "interrupted before the answer came; `stillreel list` shows whether the job exists"
        )
        return 130
    for warning in job.warnings:
        screen.note(f"note: {warning}")
    if target is None:
        show(screen, job, job.id)
        return 0
    with patient(client) as waiting:
        try:
            job = follow(waiting, job, screen)
        except KeyboardInterrupt:
            leave(client, job.id, screen)
            return 130
        if job.status != "succeeded":
            raise without_clip(job)
        saved = waiting.download(job.id, target)
    show(screen, job, str(saved), saved=str(saved))
    return 0


def patient(client: Client) -> Client:
    """Return a client of the same service that survives a restart of it, some 90 seconds."""
    return Client(client.address.url, client.address.key, retries=8)


def place_for(photo: str, output: Path | None) -> Path:
    """Return the path of the clip, before anything is submitted.

    Raises:
        UsageError: nothing can be saved there, or a file would be replaced without permission.
    """
    if output is not None:
        if output.is_dir():
            raise UsageError(f"{output} is a folder; name a file in it")
        if not output.parent.is_dir():
            raise UsageError(f"there is no folder {output.parent}")
        return output
    name = PurePosixPath(unquote(urlsplit(photo).path)).stem if is_url(photo) else Path(photo).stem
    target = Path(f"{name or 'clip'}.mp4")
    if target.exists():
        raise UsageError(f"{target} is there already; name another file with -o, or this one")
    return target


def follow(client: Client, job: Job, screen: Screen) -> Job:
    """Show a job's progress and return it once it has ended."""
    with JobBar(screen) as bar:
        bar.show(job)
        for changed in client.follow(job.id):
            job = changed
            bar.show(job)
    return job


def leave(client: Client, job_id: str, screen: Screen) -> None:
    """Ask whether to cancel the job too, and say what happens to it."""
    if not screen.confirms(f"{job_id} goes on after this command ends. Cancel it?"):
        screen.note(f"{job_id} goes on; `stillreel watch {job_id}` follows it")
        return
    try:
        client.cancel(job_id)
    except Conflict:
        screen.note(f"{job_id} had ended; `stillreel download {job_id}` saves its clip")
    except StillreelError as error:
        screen.note(f"{job_id} could not be canceled: {error}")
    else:
        screen.note(f"{job_id} is canceled")


def show(screen: Screen, job: Job, line: str, **more: str) -> None:
    """Print the job: all of it in a pipe, one line for a person."""
    if screen.is_json:
        screen.json({**job.raw, **more})
    else:
        screen.line(line)
