"""Webhooks: prepare, send, record; one dead receiver delays no other.

A dead receiver holds a thread for the seconds that a connection may take, or until the deadline if
it accepts the connection but never answers. So each kind of try has threads of its own. A receiver
that took its last delivery (PROVEN) never waits behind a dead one, because SPARE_THREADS are not
given to others. An unknown receiver (NEW) may wait for others of its kind, but only if NEW_THREADS
/ PER_LANE dead hosts were named for the first time within that time: before it answers, nothing
distinguishes it from them. A failed delivery (RETRY) waits for other failed ones. And an owner's
receivers, however slow, never take more than EACH of the threads of a kind, or of all.
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, Literal, get_args
from uuid import UUID

import structlog
from pydantic import BaseModel

from shared.crashpoints import crashpoint
from shared.db import Database
from shared.errors import DatabaseUnavailable
from shared.jobs.batch import BatchView, LiveCounts, batch_view
from shared.jobs.links import Links
from shared.jobs.prediction import SOURCE as REPLICATE
from shared.jobs.prediction import prediction
from shared.jobs.view import JobView, job_view
from shared.lifecycle import Status
from shared.outbound.client import Answer, Outbound
from shared.outbound.errors import OutboundFailed, OutboundRefused
from shared.webhooks.events import VideoEventType, events_of
from shared.webhooks.headers import HeaderSeal, without
from shared.webhooks.signing import sign, webhook_id
from worker.keeper.delivery_queue import (
    BURIED,
    Contents,
    Delivery,
    DeliveryQueue,
    Kind,
    Outcome,
    Try,
    Verdict,
)
from worker.keeper.sample_events import SAMPLE_ID, SampleMessage, sample

DEADLINE: Final = timedelta(seconds=15)
MAX_ANSWER_BYTES: Final = 8 * 1024
# The time for contents and record, both on a slow database.
RECORD_MARGIN: Final = timedelta(seconds=30)

# A thread that waits for a receiver took 30 kB when measured, and holds no database connection.
NEW_THREADS: Final = 88
RETRY_THREADS: Final = 44
SPARE_THREADS: Final = 44
THREADS: Final = NEW_THREADS + RETRY_THREADS + SPARE_THREADS
PER_LANE: Final = 2
LIMITS: Final = {
    Kind.PROVEN: THREADS,
    Kind.NEW: NEW_THREADS,
    Kind.RETRY: RETRY_THREADS,
}
EACH: Final = {kind: limit * 3 // 4 for kind, limit in LIMITS.items()}
"""How many threads one owner gets, and EACH[PROVEN] in all kinds together."""

REMEMBERED_LANES: Final = 2000

JITTER: Final = 0.2
MAX_RETRY_AFTER: Final = timedelta(days=1)
OBEYS_RETRY_AFTER: Final = frozenset({429, 503})

UNREADABLE_HEADERS: Final = (
    "its headers were sealed by a secret that STILLREEL_SECRET no longer names; add it at the end"
)

_log = structlog.get_logger(__name__)


class Event(BaseModel):
    """The body of a webhook; `data` is the answer of GET for the job, or for the batch."""

    type: str
    timestamp: datetime
    data: JobView | BatchView | SampleMessage


class VideoReference(BaseModel):
    id: str


class VideoEvent(BaseModel):
    """The body if an endpoint is registered for OpenAI's names; GET has the rest."""

    id: str
    object: Literal["event"] = "event"
    created_at: int
    type: str
    data: VideoReference


@dataclass(frozen=True)
class Message:
    """One try, signed and ready to go."""

    owner_id: UUID
    url: str
    headers: dict[str, str]
    body: bytes
    at: datetime


class WebhookSender:
    """Keeps a pool of threads busy with due deliveries.

    A crash between send and record leaves a lease that runs out: the delivery is then sent again,
    under the same id.
    """

    def __init__(
        self,
        db: Database,
        outbound: Outbound,
        *,
        delays: Sequence[timedelta],
        links: Links,
        header_seal: HeaderSeal,
        base_url: str,
    ) -> None:
        self._rows = DeliveryQueue(db, lease=outbound.deadline + RECORD_MARGIN)
        self._outbound = outbound
        self._delays = delays
        self._links = links
        self._header_seal = header_seal
        self._base_url = base_url
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="webhook")
        self._lock = threading.Lock()
        self._in_flight: dict[UUID, tuple[Delivery, Kind]] = {}
        # Of this process only: after a restart every receiver is new, and proves itself with its
        # next answer.
        self._proven: dict[str, None] = {}
        self._freed = threading.Event()

    def step(self, wait: timedelta) -> int:
        """Wait for a try to end, at most this long, then start due deliveries; return how many.

        Raises:
            DatabaseUnavailable: call again; nothing is lost.
        """
        self._freed.wait(wait.total_seconds())
        self._freed.clear()
        if not self._rows.are_due():
            return 0
        buried = self._rows.bury()
        started = sum(self._start(kind) for kind in Kind)
        if started or buried == BURIED:
            self._freed.set()  # There may be more due deliveries than one statement took.
        return started

    def close(self) -> None:
        """Wait for the tries under way; each ends by its deadline."""
        self._pool.shutdown()

    def deliver(self, delivery: Delivery) -> Outcome:
        """Make one try and record it."""
        crashpoint("webhook_claimed")
        contents = self._rows.contents(delivery)
        message = prepare(delivery, contents, links=self._links, base_url=self._base_url)
        tried = self._try(message, delivery, contents)
        crashpoint("webhook_sent")
        # A test is sent once, because the person who asked for it sees the result.
        delays = self._delays[:1] if delivery.is_test else self._delays
        verdict = judge(tried, tries=delivery.round_tries + 1, delays=delays)
        is_ours = self._rows.record(delivery, tried, verdict)
        crashpoint("webhook_recorded")
        _log.info(
            "webhook_tried",
            delivery=webhook_id(delivery.id),
            event_type=delivery.event,
            outcome=verdict.outcome if is_ours else "superseded",
            status_code=tried.status_code,
            error=tried.error,
        )
        return verdict.outcome

    def _try(self, message: Message, delivery: Delivery, contents: Contents) -> Try:
        """Send the message with the headers that its receiver needs."""
        of = delivery.job_id or delivery.batch_id
        if contents.sealed_headers is None or of is None:
            return send(self._outbound, message)
        asked = self._header_seal.open(contents.sealed_headers, of=of)
        if asked is None:
            # Without these headers the receiver would refuse it.
            return Try(at=message.at, latency=timedelta(0), error=UNREADABLE_HEADERS)
        # Headers that we set ourselves win, whatever an older version may have sealed.
        tried = send(self._outbound, replace(message, headers={**asked, **message.headers}))
        return replace(tried, excerpt=without(asked.values(), tried.excerpt))

    def _start(self, kind: Kind) -> int:
        with self._lock:
            in_flight = list(self._in_flight.values())
            proven = list(self._proven)
        alike = [delivery for delivery, each in in_flight if each is kind]
        room = min(THREADS - len(in_flight), LIMITS[kind] - len(alike))
        if room <= 0:
            return 0
        claimed = self._rows.claim(
            kind,
            limit=room,
            busy_receiver_keys=[delivery.receiver_key for delivery, _ in in_flight],
            proven_receiver_keys=proven,
            per_receiver=PER_LANE,
            per_owner=EACH[kind],
            owners_room=_owners_room(kind, [delivery for delivery, _ in in_flight], alike),
        )
        for delivery in claimed:
            with self._lock:
                self._in_flight[delivery.id] = (delivery, kind)
            self._pool.submit(self._run, delivery)
        return len(claimed)

    def _run(self, delivery: Delivery) -> None:
        name = webhook_id(delivery.id)
        try:
            self._remember(delivery.receiver_key, self.deliver(delivery))
        except DatabaseUnavailable as error:
            _log.warning("webhook_not_recorded", delivery=name, code=error.code)
        # The edge of a keeper loop: the lease runs out and the delivery is tried again.
        except Exception:
            _log.exception("webhook_not_recorded", delivery=name)
        finally:
            with self._lock:
                del self._in_flight[delivery.id]
            self._freed.set()

    def _remember(self, receiver_key: str, outcome: Outcome) -> None:
        with self._lock:
            self._proven.pop(receiver_key, None)
            if outcome is Outcome.DELIVERED:
                self._proven[receiver_key] = None
            if len(self._proven) > REMEMBERED_LANES:
                del self._proven[next(iter(self._proven))]


def _owners_room(
    kind: Kind, in_flight: Sequence[Delivery], alike: Sequence[Delivery]
) -> dict[UUID, int]:
    """Return how many more tries of a kind each owner with tries in flight may begin."""
    of_all = Counter(delivery.owner_id for delivery in in_flight)
    of_kind = Counter(delivery.owner_id for delivery in alike)
    return {
        owner_id: min(EACH[kind] - of_kind[owner_id], EACH[Kind.PROVEN] - count)
        for owner_id, count in of_all.items()
    }


def prepare(delivery: Delivery, contents: Contents, *, links: Links, base_url: str) -> Message:
    """Sign the job as it is now, with links that are valid from now on.

    The id and the event's time are the same on every try.
    """
    body = _body(delivery, contents, links, base_url).model_dump_json().encode()
    headers = sign(
        webhook_id(delivery.id), contents.now, body, signing_secrets=contents.signing_secrets
    )
    headers["content-type"] = "application/json"
    return Message(delivery.owner_id, delivery.url, headers, body, contents.now)


def _body(delivery: Delivery, contents: Contents, links: Links, base_url: str) -> BaseModel:
    """Return the body, in the form of the protocol that the job came by."""
    job = contents.job
    if job is not None and job.source == REPLICATE and delivery.is_one_off:
        view = job_view(job, links=links, base_url=base_url, now=contents.now)
        return prediction(job, view, base_url=base_url)
    return _event(delivery, contents, links, base_url)


def _event(
    delivery: Delivery, contents: Contents, links: Links, base_url: str
) -> Event | VideoEvent:
    job, batch = contents.job, contents.batch
    if batch is not None:
        url = f"{base_url}{links.zip_path(batch, now=contents.now)}"
        return Event(
            type=delivery.event,
            timestamp=batch.finished_at or contents.created_at,
            data=batch_view(batch, LiveCounts(), content_url=url),
        )
    # A job that is handed back starts more than once; its end comes once.
    is_end = job is not None and delivery.event not in events_of(Status.RUNNING)
    at = (job.finished_at if job and is_end else None) or contents.created_at
    if delivery.event in get_args(VideoEventType):
        return VideoEvent(
            id=f"evt_{delivery.id.hex}",
            created_at=int(at.timestamp()),
            type=delivery.event,
            data=VideoReference(id=job.public_id if job else SAMPLE_ID),
        )
    if job is None:
        return Event(type=delivery.event, timestamp=at, data=sample(delivery.event))
    view = job_view(job, links=links, base_url=base_url, now=contents.now)
    return Event(type=delivery.event, timestamp=at, data=view)


def send(outbound: Outbound, message: Message) -> Try:
    """Make the request; any result becomes a Try."""
    began = time.monotonic()
    try:
        answer = outbound.post(
            message.url, message.body, message.headers, owner_id=message.owner_id
        )
    except (OutboundRefused, OutboundFailed) as failure:
        latency = timedelta(seconds=time.monotonic() - began)
        return Try(at=message.at, latency=latency, error=failure.message)
    return Try(
        at=message.at,
        latency=timedelta(seconds=time.monotonic() - began),
        status_code=answer.status_code,
        error=_fault(answer.status_code),
        excerpt=_text(answer.excerpt),
        retry_after=_retry_after(answer, message.at),
    )


def judge(tried: Try, *, tries: int, delays: Sequence[timedelta]) -> Verdict:
    """Return what a try leads to.

    Args:
        tries: how many were made, including this one, since the delivery was made or replayed.
        delays: the wait before each try; its length is how many there are.
    """
    if tried.error is None:
        return Verdict(outcome=Outcome.DELIVERED)
    if tried.status_code == 410:
        reason = "the receiver answered 410 Gone"
        return Verdict(outcome=Outcome.DEAD, dead_reason=reason, is_gone=True)
    if tries >= len(delays):
        reason = f"try {tries} of {len(delays)} failed: {tried.error}"
        return Verdict(outcome=Outcome.DEAD, dead_reason=reason)
    delay = delays[tries]
    asked = timedelta(0)
    if tried.retry_after is not None and tried.status_code in OBEYS_RETRY_AFTER:
        asked = min(tried.retry_after, max(2 * delay, MAX_RETRY_AFTER))
    return Verdict(
        outcome=Outcome.RETRY,
        wait_at_least=max(delay * (1 - JITTER), asked),
        wait_at_most=max(delay, asked) * (1 + JITTER),
    )


def _fault(status_code: int) -> str | None:
    if 200 <= status_code < 300:
        return None
    if 300 <= status_code < 400:
        return f"answered {status_code}; redirects are not followed, give the final URL"
    return f"answered {status_code}"


def _text(excerpt: bytes) -> str:
    """Return an excerpt that Postgres accepts, in no more bytes than it arrived in."""
    readable = excerpt.decode("utf-8", "replace").replace("\x00", "")
    return readable.encode()[: len(excerpt)].decode("utf-8", "ignore")


def _retry_after(answer: Answer, now: datetime) -> timedelta | None:
    """Read a Retry-After in seconds or as a date, by Postgres' clock."""
    value = answer.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return timedelta(seconds=int(value))
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return max(timedelta(0), (at if at.tzinfo else at.replace(tzinfo=UTC)) - now)
