"""Webhooks on a real Postgres: what reaches a receiver, and what its answer means."""

import json
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from standardwebhooks import Webhook

from shared.jobs.job import Job
from shared.jobs.view import job_view
from shared.webhooks.signing import new_secret
from tests.support import receiver as twin
from tests.support.drawn_links import LINKS
from tests.support.outbox import BASE_URL, HOURLY, PATIENCE, Outbox
from tests.support.receiver import Behaviour, Received, Receiver
from worker.keeper.delivery_queue import Outcome
from worker.keeper.webhook_sender import MAX_ANSWER_BYTES


def verified(request: Received, signing_secret: str) -> Any:
    return Webhook(signing_secret).verify(request.body, request.headers)


def seen(job: Job) -> Any:
    """Return the job as its owner sees it now."""
    view = job_view(
        replace(job, link_epoch=0), links=LINKS, base_url=BASE_URL, now=datetime.now(UTC)
    )
    return json.loads(view.model_dump_json())


def without_link(body: dict[str, Any]) -> dict[str, Any]:
    """Return a job's body with the unsigned address of its clip."""
    video = body["output"]["video"]
    return {**body, "output": {"video": {**video, "url": video["url"].partition("&link=")[0]}}}


def test_a_finished_job_is_told_with_a_signature_that_verifies(
    outbox: Outbox, receiver: Receiver
) -> None:
    job = outbox.finish(webhook_url=receiver.url("/hook"))

    sender = outbox.sender()
    sender.tried(1)

    (request,) = receiver.requests
    body = verified(request, outbox.secret())
    assert (request.method, request.path) == ("POST", "/hook")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == f"delivery_{outbox.row()['id'].hex}"
    assert body["type"] == "job.succeeded"
    assert without_link(body["data"]) == without_link(seen(job))
    assert datetime.fromisoformat(body["timestamp"]) == job.finished_at
    assert (outbox.row()["status"], outbox.row()["next_at"]) == ("delivered", None)
    assert outbox.row()["delivered_at"] >= job.finished_at
    assert sender.outcomes == {Outcome.DELIVERED: 1}


def test_a_start_is_told_to_those_who_asked(outbox: Outbox, receiver: Receiver) -> None:
    outbox.finish(webhook_url=receiver.url(), types=["job.started"])

    outbox.sender().tried(1)

    (request,) = receiver.requests
    assert request.json()["type"] == "job.started"
    assert datetime.fromisoformat(request.json()["timestamp"]) == outbox.row()["created_at"]


def test_every_try_has_the_same_id_and_a_signature_of_its_own(
    outbox: Outbox, receiver: Receiver
) -> None:
    receiver.script("/", twin.status(500, b"la\x00ter"), twin.reset(), twin.status(204))
    outbox.finish(webhook_url=receiver.url())

    sender = outbox.sender()
    sender.tried(3)

    for request in receiver.requests:
        verified(request, outbox.secret())
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    assert len({request.json()["timestamp"] for request in receiver.requests}) == 1
    assert [
        (attempt["status_code"], attempt["error"], attempt["excerpt"])
        for attempt in outbox.attempts()
    ] == [
        (500, "answered 500", "later"),
        (None, "127.0.0.1 cut the connection", None),
        (204, None, ""),
    ]
    assert sender.outcomes == {Outcome.RETRY: 2, Outcome.DELIVERED: 1}


def test_during_a_rotation_both_secrets_sign_and_afterwards_one(
    outbox: Outbox, receiver: Receiver
) -> None:
    outbox.finish(webhook_url=receiver.url())
    old = new_secret()
    sender = outbox.sender()

    for overlap, signatures in (("1 hour", 2), ("-1 s", 1)):
        outbox.run(
            "UPDATE webhook_endpoints SET previous_secret = :old,"
            " previous_secret_until = clock_timestamp() + CAST(:overlap AS interval)",
            old=old,
            overlap=overlap,
        )
        outbox.run("UPDATE deliveries SET status = 'pending', next_at = clock_timestamp()")
        sender.tried(sender.outcomes.total() + 1)
        assert len(receiver.requests[-1].headers["webhook-signature"].split(" ")) == signatures
        verified(receiver.requests[-1], outbox.secret())
    verified(receiver.requests[0], old)


def test_the_next_try_waits_as_the_schedule_says(outbox: Outbox, receiver: Receiver) -> None:
    receiver.script("/", twin.status(500))
    outbox.finish(webhook_url=receiver.url())

    outbox.sender(delays=HOURLY).tried(1)

    wait = outbox.row()["next_at"] - outbox.attempts()[0]["at"]
    assert timedelta(minutes=48) <= wait <= timedelta(minutes=72, seconds=PATIENCE)
    assert (outbox.row()["status"], outbox.row()["round_tries"]) == ("pending", 1)
    assert len(receiver.requests) == 1


def test_waits_are_spread_so_that_retries_do_not_come_together(
    outbox: Outbox, receiver: Receiver
) -> None:
    receiver.script("/", twin.status(500))
    for _ in range(8):
        outbox.finish(webhook_url=receiver.url())

    outbox.sender(delays=HOURLY).tried(8)

    waits = sorted(delivery["next_at"] for delivery in outbox.rows())
    assert waits[-1] - waits[0] > timedelta(minutes=1)


def test_after_the_last_try_it_is_a_dead_letter(outbox: Outbox, receiver: Receiver) -> None:
    receiver.script("/", twin.status(500))
    outbox.finish(webhook_url=receiver.url())

    sender = outbox.sender()
    sender.tried(3)

    assert (outbox.row()["status"], outbox.row()["next_at"]) == ("dead", None)
    assert outbox.row()["dead_reason"] == "try 3 of 3 failed: answered 500"
    assert len(receiver.requests) == 3
    assert sender.outcomes == {Outcome.RETRY: 2, Outcome.DEAD: 1}


def test_a_redirect_is_a_failure_and_nobody_is_asked_twice(
    outbox: Outbox, receiver: Receiver
) -> None:
    with Receiver() as private:
        receiver.script("/", twin.redirect(private.url()))
        outbox.finish(webhook_url=receiver.url())

        outbox.sender(delays=HOURLY).tried(1)

        assert outbox.attempts()[0]["error"].startswith("answered 302; redirects are not followed")
        assert private.connects == 0


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_a_receiver_that_is_busy_says_when(
    outbox: Outbox, receiver: Receiver, as_date: bool
) -> None:
    two_hours_on = datetime.now(UTC) + timedelta(hours=2)
    asked = format_datetime(two_hours_on, usegmt=True) if as_date else "7200"
    receiver.script("/", twin.status(429, Retry_After=asked))
    outbox.finish(webhook_url=receiver.url())

    outbox.sender(delays=HOURLY).tried(1)

    wait = outbox.row()["next_at"] - outbox.attempts()[0]["at"]
    assert timedelta(hours=1.9) < wait < timedelta(hours=2.5)


def test_a_204_that_comes_late_but_in_time_is_delivered(
    outbox: Outbox, receiver: Receiver
) -> None:
    receiver.script("/", twin.late(0.3))
    outbox.finish(webhook_url=receiver.url())

    outbox.sender().tried(1)

    assert outbox.row()["status"] == "delivered"
    assert 300 <= outbox.attempts()[0]["latency_ms"] < 30_000


def test_a_receiver_without_an_answer_is_left_at_the_deadline(
    outbox: Outbox, receiver: Receiver
) -> None:
    receiver.script("/", twin.drip_head(0.05))
    outbox.finish(webhook_url=receiver.url())

    outbox.sender(delays=HOURLY, deadline=timedelta(seconds=0.5)).tried(1)

    (attempt,) = outbox.attempts()
    assert (attempt["status_code"], attempt["error"]) == (None, "no answer within 0.5 s")
    # This receiver sends its head in drips for ever.
    assert 400 < attempt["latency_ms"] < 30_000


@pytest.mark.parametrize(
    "behaviour",
    [twin.endless_body(500), twin.gzip_bomb(), twin.status(500, b"\xff" * 20_000)],
    ids=["endless", "gzip", "not text"],
)
def test_an_excerpt_is_short_text_whatever_came(
    outbox: Outbox, receiver: Receiver, behaviour: Behaviour
) -> None:
    receiver.script("/", behaviour)
    outbox.finish(webhook_url=receiver.url())

    outbox.sender(delays=HOURLY).tried(1)

    (attempt,) = outbox.attempts()
    assert 0 < len(attempt["excerpt"].encode()) <= MAX_ANSWER_BYTES


def test_a_certificate_for_another_name_is_a_failed_try(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hooks.example.org").configure_cert(context)
    with Receiver(tls=context) as receiver:
        outbox.finish(webhook_url=receiver.url(host="localhost"))

        outbox.sender(delays=HOURLY).tried(1)

        (attempt,) = outbox.attempts()
        assert attempt["status_code"] is None
        assert "does not verify: Hostname mismatch" in attempt["error"]
        assert outbox.row()["status"] == "pending"
        assert receiver.requests == []


def test_a_private_address_is_not_reached_and_the_attempt_says_so(
    outbox: Outbox, receiver: Receiver
) -> None:
    outbox.finish(webhook_url=receiver.url())

    outbox.sender(allow=(), delays=HOURLY).tried(1)

    assert receiver.connects == 0
    assert "is not at a public address" in outbox.attempts()[0]["error"]
    assert outbox.row()["status"] == "pending"
