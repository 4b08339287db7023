"""Fixtures of the integration tests."""

from tests.gateway import gateway, hand, one_gateway, one_hand
from tests.outbox import outbox, outbox_desk, post_office, postman, receiver

__all__ = [
    "gateway",
    "hand",
    "one_gateway",
    "one_hand",
    "outbox",
    "outbox_desk",
    "post_office",
    "postman",
    "receiver",
]
