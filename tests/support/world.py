"""A tenant, another tenant, an admin and strangers at one gateway, and what a path may name."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import uuid4

import pytest
from sqlalchemy import text

from tests.support.gateway import (
    MODEL,
    MOVES,
    FakeWorker,
    photo_png,
    running_gateway,
)
from tests.support.outbox import LOOPBACK
from tests.support.receiver import Receiver
from tests.support.stack import Stack
from tests.support.tenants import Holder, KeyAdmin, key_admin_of

ENDPOINT = {"name": "a", "url": "http://127.0.0.1:9000/hook", "event_types": ["job.failed"]}


_FORGET_ENDPOINTS = text(
    "UPDATE webhook_endpoints SET deleted_at = created_at WHERE url NOT LIKE '%/standing'"
)


@dataclass(frozen=True)
class World:
    """A tenant, another tenant, an admin, and four who have no good key."""

    tenant: Holder
    other: Holder
    admin: Holder
    strangers: dict[str, Holder]
    locksmith: KeyAdmin
    hand: FakeWorker
    receiver: Receiver
    seen: dict[str, str] = field(default_factory=dict)

    def standing(self) -> dict[str, str]:
        """Return one set of things for all tests that change nothing."""
        if not self.seen:
            self.seen.update(self.belongings("/standing"))
        return self.seen

    def named(self, route: str) -> dict[str, str]:
        """Return the things that a route may name; they are new if its request may change them."""
        is_read = route.startswith(("GET ", "HEAD "))
        return self.standing() if is_read else self.belongings()

    def file(self) -> str:
        """Return the id of a new file of the tenant."""
        parts = {"content": ("a.png", photo_png())}
        kept = self.tenant.send("POST", "/compat/replicate/v1/files", files=parts)
        return str(kept.json()["id"])

    def batch(self) -> str:
        """Return the id of a new batch of the tenant, whose one job waits."""
        made = self.tenant.send("POST", "/v1/batches", files={"image": ("a.png", photo_png())})
        return str(made.json()["id"])

    def belongings(self, path: str = "/hook") -> dict[str, str]:
        """Return the things that a path may name, all new and the tenant's; any key is named."""
        body = {**ENDPOINT, "url": self.receiver.url(path), "event_types": ["job.succeeded"]}
        with self.hand.db.begin() as connection:  # One owner has fifty at most.
            connection.execute(_FORGET_ENDPOINTS)
        endpoint = self.tenant.send("POST", "/v1/webhook_endpoints", json=body).json()["id"]
        job = self.tenant.created()
        while (claimed := self.hand.claim()).public_id != job:
            pass  # Jobs of earlier tests in the queue.
        self.hand.complete(claimed)
        batch = self.batch()
        self.hand.complete(self.hand.claim())
        told = self.tenant.get(f"/v1/webhook_endpoints/{endpoint}/deliveries").json()
        key, _ = self.locksmith.holder(self.tenant.gateway, f"spare-{uuid4().hex}")
        return {
            "job_id": job,
            "batch_id": batch,
            "video_id": job,
            "prediction_id": job,
            "file_id": self.file(),
            "owner": "stillreel",
            "version": "moves@1",
            "upload_id": self.tenant.send("POST", "/v1/uploads").json()["id"],
            "file_name": f"{job}.mp4",
            "endpoint_id": endpoint,
            "delivery_id": told["data"][0]["id"],
            "key_id": key.public_id,
            "model": "moves",
        }


@pytest.fixture(scope="module")
def world(module_stack: Stack, one_fake_worker: FakeWorker) -> Iterator[World]:
    settings = module_stack.settings(outbound_allow=str(LOOPBACK[0]), rate_limit="none")
    one_fake_worker.clear()
    one_fake_worker.offer(MOVES, MODEL)
    with (
        running_gateway(settings) as gateway,
        key_admin_of(settings) as locksmith,
        Receiver() as receiver,
    ):
        _, tenant = locksmith.holder(gateway, "key-of-the-tenant")
        _, other = locksmith.holder(gateway, "key-of-another")
        _, admin = locksmith.holder(gateway, "key-of-an-admin", is_admin=True)
        gone, revoked = locksmith.holder(gateway, "key-that-was-revoked")
        locksmith.revoke(gateway, gone)
        replaced, before = locksmith.holder(gateway, "key-that-was-rotated")
        locksmith.rotate(gateway, replaced)
        strangers = {
            "none": Holder(gateway, None),
            "revoked": revoked,
            "rotated": before,
            "garbage": Holder(gateway, f"sr_{'a' * 12}_{'b' * 43}"),
        }
        yield World(tenant, other, admin, strangers, locksmith, one_fake_worker, receiver)
