"""Read from SQL, the ledger and the files which promises were broken when all is quiet again."""

import hashlib
import io
from collections import Counter, defaultdict
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import av
from sqlalchemy import RowMapping
from standardwebhooks import Webhook

from shared.errors import AppError
from shared.jobs.job import Job, Variant, parse_id
from shared.jobs.storage_keys import output_key
from shared.lifecycle import Status
from shared.webhooks.events import EVENTS, TERMINAL_EVENTS
from shared.webhooks.signing import webhook_id
from tests.chaos.client import Ledger
from tests.support.factory import JobFixture
from tests.support.receiver import Receiver

ENDS = {str(status): event for event in TERMINAL_EVENTS for status in EVENTS[event]}


@dataclass(frozen=True, kw_only=True)
class Findings:
    """How often each promise was broken."""

    lost: int = 0
    false_202: int = 0
    ended_twice: int = 0
    stale_results: int = 0
    broken_results: int = 0
    results_after_cancel: int = 0
    split_keys: int = 0
    webhooks_lost: int = 0
    webhooks_forged: int = 0

    @property
    def broken(self) -> dict[str, int]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: count for name, count in values.items() if count}


@dataclass(frozen=True)
class Heard:
    """How often receivers got each webhook-id, and how many requests had a wrong signature."""

    times: Counter[str]
    forged: int


def audit(job_fixture: JobFixture, ledger: Ledger, receivers: list[Receiver]) -> Findings:
    """Compare every promise with the tables, the files and the webhooks."""
    rows = {row["id"]: row for row in job_fixture.run("SELECT * FROM jobs")}
    deliveries = defaultdict(list)
    for delivery in job_fixture.run("SELECT * FROM deliveries"):
        deliveries[delivery["job_id"]].append(delivery)
    heard = listen(job_fixture, receivers)
    accepted = [(key, parse_id(job_id)) for key, job_id in ledger.accepted]
    terminal = {id_ for id_, row in rows.items() if row["status"] in ENDS}
    jobs = [Job.from_row(row) for row in rows.values()]
    return Findings(
        lost=len({id_ for _, id_ in accepted if id_ not in terminal}),
        false_202=len({id_ for _, id_ in accepted if id_ not in rows}),
        ended_twice=sum(_ends(deliveries[id_]) > 1 for id_ in rows),
        stale_results=sum(_is_stale(job) for job in jobs),
        broken_results=sum(_is_broken(job_fixture, job) for job in jobs),
        results_after_cancel=sum(_has_result(rows, job_id) for job_id in ledger.canceled),
        split_keys=_split(accepted, rows.values()),
        webhooks_lost=sum(_is_untold(job, deliveries[job.id], heard) for job in jobs),
        webhooks_forged=heard.forged,
    )


def listen(job_fixture: JobFixture, receivers: list[Receiver]) -> Heard:
    """Check every webhook's signature with its owner's secret."""
    secrets = [row["secret"] for row in job_fixture.run("SELECT secret FROM webhook_endpoints")]
    times: Counter[str] = Counter()
    forged = 0
    for receiver in receivers:
        for request in list(receiver.requests):
            id_ = request.headers["webhook-id"]
            at = datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC)
            good = {Webhook(secret).sign(id_, at, request.body.decode()) for secret in secrets}
            forged += not good & set(request.headers["webhook-signature"].split())
            times[id_] += 1
    return Heard(times, forged)


def duplicates(heard: Heard) -> int:
    return sum(count - 1 for count in heard.times.values())


def _ends(deliveries: list[RowMapping]) -> int:
    return len({d["event"] for d in deliveries if d["event"] in TERMINAL_EVENTS})


def _is_stale(job: Job) -> bool:
    """Return whether a result has no success, a success no result, or the attempt is old."""
    if job.result is None:
        return job.status is Status.SUCCEEDED
    key = job.result.artifacts[Variant.VIDEO].key
    return job.status is not Status.SUCCEEDED or key != output_key(job.id, job.attempt, ".mp4")


def _is_broken(job_fixture: JobFixture, job: Job) -> bool:
    if job.result is None or job.deleted_at is not None:
        return False
    video = job.result.artifacts[Variant.VIDEO]
    try:
        body = job_fixture.storage.get(video.key)
        with av.open(io.BytesIO(body)) as clip:
            frames = len(list(clip.decode(video=0)))
    except (AppError, av.FFmpegError):
        return True
    expected = job.parameters.num_frames
    return (hashlib.sha256(body).hexdigest(), len(body), frames) != (
        video.sha256,
        video.bytes,
        expected,
    )


def _has_result(rows: dict[Any, RowMapping], job_id: str) -> bool:
    row = rows.get(parse_id(job_id))
    return row is None or row["status"] != Status.CANCELED or row["result"] is not None


def _split(accepted: list[tuple[str, Any]], rows: Any) -> int:
    """Count the keys with more than one job, in the clients' ledger or in the table."""
    told = defaultdict(set)
    for key, id_ in accepted:
        told[key].add(id_)
    for row in rows:
        if row["idempotency_key"] is not None:
            told[row["idempotency_key"]].add(row["id"])
    return sum(len(ids) > 1 for ids in told.values())


def _is_untold(job: Job, deliveries: list[RowMapping], heard: Heard) -> bool:
    """Return whether a job's end neither reached its receiver nor became a dead letter."""
    event = ENDS.get(str(job.status))
    if job.webhook_url is None or event is None:
        return False
    for delivery in deliveries:
        if delivery["event"] == event:
            told = heard.times[webhook_id(delivery["id"])] > 0
            return not (
                delivery["status"] == "dead" or (delivery["status"] == "delivered" and told)
            )
    return True
