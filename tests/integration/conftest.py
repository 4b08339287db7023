"""Fixtures of the integration tests."""

from tests.gateway import gateway, hand, one_gateway, one_hand
from tests.outbox import outbox, outbox_desk, post_office, postman, receiver
from tests.tenants import here, locksmith, one_locksmith, there, twins

__all__ = [
    "gateway",
    "hand",
    "here",
    "locksmith",
    "one_gateway",
    "one_hand",
    "one_locksmith",
    "outbox",
    "outbox_desk",
    "post_office",
    "postman",
    "receiver",
    "there",
    "twins",
]
