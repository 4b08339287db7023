"""Keys for tests: each holder sends its own, to any gateway that a test names."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import requests
from sqlalchemy import delete

from shared.api_keys.key import ApiKey
from shared.api_keys.store import Keys
from shared.settings import Settings
from shared.tables.access import api_keys
from tests.support.gateway import FakeWorker, Gateway, photo_png, running_gateway
from tests.support.stack import Stack, open_database

PATIENCE = 30

EVENTS = "/v1/webhook_event_types"
"""A route that asks the database only for the key."""


@dataclass(frozen=True)
class Holder:
    """Somebody with the secret of a key, or with None and no key."""

    gateway: Gateway
    text: str | None

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = dict(options.pop("headers", {}))
        if self.text is not None:
            headers["Authorization"] = f"Bearer {self.text}"
        return requests.request(
            method, f"{self.gateway.url}{path}", headers=headers, timeout=PATIENCE, **options
        )

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.send("GET", path, **options)

    def create(self, **options: Any) -> requests.Response:
        """POST /v1/jobs with a small photograph."""
        return self.send("POST", "/v1/jobs", files={"image": ("a.png", photo_png())}, **options)

    def created(self) -> str:
        """Return the id of a new job."""
        answer = self.create()
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])


class KeyAdmin:
    """Makes, rotates and revokes keys beside the gateways, as the command does."""

    def __init__(self, settings: Settings) -> None:
        self.db = open_database(settings, deadline=timedelta(seconds=60))
        self.keys = Keys(self.db)

    def holder(self, gateway: Gateway, name: str, **limits: Any) -> tuple[ApiKey, Holder]:
        key, given = self.keys.create(name, **limits)
        gateway.ports.key_cache.forget()
        return key, Holder(gateway, given)

    def rotate(self, gateway: Gateway, key: ApiKey, *, overlap: timedelta = timedelta()) -> Holder:
        """Return the holder of the new secret."""
        _, given = self.keys.rotate(key.id, overlap=overlap)
        gateway.ports.key_cache.forget()
        return Holder(gateway, given)

    def revoke(self, gateway: Gateway, key: ApiKey) -> None:
        self.keys.revoke(key.id)
        gateway.ports.key_cache.forget()


@contextlib.contextmanager
def key_admin_of(settings: Settings) -> Iterator[KeyAdmin]:
    locksmith = KeyAdmin(settings)
    try:
        yield locksmith
    finally:
        locksmith.db.close()


def refusal(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@pytest.fixture(scope="module")
def two_tenants(module_stack: Stack) -> Iterator[tuple[Gateway, Gateway]]:
    """Two gateways on one database, which refuse without a limit on refusals."""
    settings = module_stack.settings(rate_limit="none")
    with running_gateway(settings) as one, running_gateway(settings) as other:
        yield one, other


@pytest.fixture(scope="module")
def one_key_admin(module_stack: Stack) -> Iterator[KeyAdmin]:
    with key_admin_of(module_stack.settings()) as locksmith:
        yield locksmith


@pytest.fixture
def key_admin(
    one_key_admin: KeyAdmin, two_tenants: tuple[Gateway, Gateway], fake_worker: FakeWorker
) -> KeyAdmin:
    """A maker of keys before the first key; `hand` serves the test's engines."""
    with one_key_admin.db.begin() as connection:
        connection.execute(delete(api_keys))
    for each in two_tenants:
        each.ports.key_cache.forget()
    return one_key_admin


@pytest.fixture
def tenant_a(two_tenants: tuple[Gateway, Gateway], key_admin: KeyAdmin) -> Gateway:
    return two_tenants[0]


@pytest.fixture
def tenant_b(two_tenants: tuple[Gateway, Gateway], key_admin: KeyAdmin) -> Gateway:
    return two_tenants[1]
