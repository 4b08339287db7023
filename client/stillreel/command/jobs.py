"""`stillreel watch`, `list`, `cancel` and `download`."""

from argparse import Namespace
from itertools import islice
from pathlib import Path
from typing import Final

from stillreel.client import Client
from stillreel.command import submit
from stillreel.command.console import Screen
from stillreel.command.fields import UsageError, pairs
from stillreel.command.progress import doing, left
from stillreel.ending import without_clip
from stillreel.errors import Refused
from stillreel.job import Job

SUFFIXES: Final = {"video": ".mp4", "poster": ".webp", "gif": ".gif", "spritesheet": ".webp"}
MOST_PROMPT: Final = 40


def watch(client: Client, typed: Namespace, screen: Screen) -> int:
    """Follow one job, and fail if it fails; or follow all jobs, until Ctrl-C."""
    if typed.job is None:
        with submit.patient(client) as waiting:
            return _watch_all(waiting, screen)
    job = client.job(typed.job)
    with submit.patient(client) as waiting:
        if screen.is_json:
            for job in waiting.follow(typed.job):
                screen.json_line(job.raw)
        else:
            job = submit.follow(waiting, job, screen)
            screen.line(f"{job.id} {job.status}")
    if job.status != "succeeded":
        raise without_clip(job)
    return 0


def _watch_all(client: Client, screen: Screen) -> int:
    for event in client.events():
        if screen.is_json:
            deleted = {"id": event.job_id, "object": "job", "deleted": True}
            screen.json_line(deleted if event.job is None else event.job.raw)
        elif event.job is None:
            screen.line(f"{event.job_id} deleted")
        else:
            screen.line(f"{event.job_id} {doing(event.job)} {left(event.job)}".rstrip())
    return 0


def list_jobs(client: Client, typed: Namespace, screen: Screen) -> int:
    if typed.limit < 1:
        raise UsageError("--limit takes a number from 1 on")
    found = client.jobs(
        status=typed.status,
        model=typed.model,
        metadata=pairs(typed.metadata, "--metadata"),
    )
    jobs = list(islice(found, typed.limit))
    if screen.is_json:
        screen.json([job.raw for job in jobs])
    else:
        columns = ("job", "status", "model", "made", "prompt")
        screen.table(columns, (_row(job) for job in jobs))
    return 0


def _row(job: Job) -> tuple[str, ...]:
    prompt = str(job.input.get("prompt", ""))
    short = prompt if len(prompt) <= MOST_PROMPT else f"{prompt[: MOST_PROMPT - 1]}…"
    made = job.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
    return (job.id, doing(job), job.model, made, short)


def cancel(client: Client, typed: Namespace, screen: Screen) -> int:
    """Cancel each job, also those after one that was refused."""
    canceled, refused = [], False
    for job_id in typed.jobs:
        try:
            job = client.cancel(job_id)
        except Refused as error:
            screen.error(f"{job_id}: {error}")
            refused = True
            continue
        canceled.append(job.raw)
        if not screen.is_json:
            screen.line(f"{job.id} {job.status}")
    if screen.is_json:
        screen.json(canceled)
    return 1 if refused else 0


def download(client: Client, typed: Namespace, screen: Screen) -> int:
    target = typed.output or Path(f"{Path(typed.job).name}{SUFFIXES[typed.variant]}")
    saved = client.download(typed.job, target, variant=typed.variant)
    if screen.is_json:
        screen.json({"id": typed.job, "variant": typed.variant, "saved": str(saved)})
    else:
        screen.line(str(saved))
    return 0
