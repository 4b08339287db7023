"""Fixtures of the integration tests."""

from tests.gateway import gateway, hand, one_gateway, one_hand

__all__ = ["gateway", "hand", "one_gateway", "one_hand"]
