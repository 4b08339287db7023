"""Fixtures of the integration tests."""

from tests.support.gateway import gateway, hand, one_gateway, one_hand
from tests.support.outbox import outbox, outbox_desk, post_office, postman, receiver
from tests.support.tenants import here, locksmith, one_locksmith, there, twins

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
