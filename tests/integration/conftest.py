"""Fixtures of the integration tests."""

from tests.support.gateway import fake_worker, gateway, one_fake_worker, one_gateway
from tests.support.outbox import (
    outbox,
    outbox_job_fixture,
    receiver,
    running_sender,
    webhook_gateway,
)
from tests.support.tenants import key_admin, one_key_admin, tenant_a, tenant_b, two_tenants
from tests.support.world import world

__all__ = [
    "fake_worker",
    "gateway",
    "key_admin",
    "one_fake_worker",
    "one_gateway",
    "one_key_admin",
    "outbox",
    "outbox_job_fixture",
    "receiver",
    "running_sender",
    "tenant_a",
    "tenant_b",
    "two_tenants",
    "webhook_gateway",
    "world",
]
