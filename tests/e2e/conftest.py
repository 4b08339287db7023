"""Fixtures of the tests through a browser or over a whole service."""

from tests.support.gateway import fake_worker, gateway, one_fake_worker, one_gateway
from tests.support.page import browser, clip, guest, studio

__all__ = [
    "browser",
    "clip",
    "fake_worker",
    "gateway",
    "guest",
    "one_fake_worker",
    "one_gateway",
    "studio",
]
