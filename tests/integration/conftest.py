"""Fixtures of the integration tests."""

from tests.gateway import gateway, hand

__all__ = ["gateway", "hand"]
