"""Every route is asked by every kind of caller: what each gets, and that ids reveal nothing."""

import contextlib
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from typing import Any
from uuid import uuid4

import pytest
import requests

from api.app import create_app
from shared.settings import Settings
from tests.support.factory import JobFixture
from tests.support.gateway import (
    data_uri,
    photo_png,
)
from tests.support.outbox import AT_ONCE, LOOPBACK, Sender
from tests.support.routes import described, routes
from tests.support.stack import Stack
from tests.support.streams import begun
from tests.support.tenants import Holder, refusal
from tests.support.world import ENDPOINT, World

REQUEST_ID = "the-same-for-both"


class Access(Enum):
    """Who may use a route: everybody, holders of a key, the named thing's owner, or admins."""

    PUBLIC = auto()
    HOLDER = auto()
    OWNER = auto()
    ADMIN = auto()


@dataclass(frozen=True)
class Row:
    """A route's access, the status that permitted callers get, and what to send.

    `is_live`: the route needs a queued job.
    """

    access: Access
    status: int = 200
    json: Any = None
    is_form: bool = False
    part: str = "image"
    is_live: bool = False
    is_stream: bool = False
    headers: dict[str, str] = field(default_factory=dict)


HOLDER, OWNER = Row(Access.HOLDER), Row(Access.OWNER)
PUBLIC, ADMIN = Row(Access.PUBLIC), Row(Access.ADMIN)
RENAME = {"name": "renamed"}
PREDICTION = {"version": "stillreel/moves", "input": {"image": data_uri(photo_png())}}
NOBODYS = ("model", "owner", "version")
"""Path parameters whose values belong to nobody."""

SINCE = {"since": "2020-01-01T00:00:00Z"}

EXPECTED: dict[str, Row] = {
    "GET /": PUBLIC,
    "GET /admin": PUBLIC,
    "GET /web": PUBLIC,
    "GET /docs": PUBLIC,
    "GET /docs/start.js": PUBLIC,
    "GET /docs/ui": PUBLIC,
    "GET /openapi.json": PUBLIC,
    "HEAD /openapi.json": PUBLIC,
    "GET /livez": PUBLIC,
    "HEAD /livez": PUBLIC,
    "GET /readyz": PUBLIC,
    "HEAD /readyz": PUBLIC,
    "GET /metrics": PUBLIC,
    "POST /v1/jobs": Row(Access.HOLDER, 202, is_form=True),
    "GET /v1/jobs": HOLDER,
    "GET /v1/jobs/{job_id}": OWNER,
    "GET /v1/jobs/{job_id}/events": OWNER,
    "GET /v1/events": Row(Access.HOLDER, is_stream=True),
    "POST /v1/batches": Row(Access.HOLDER, 202, is_form=True),
    "GET /v1/batches": HOLDER,
    "GET /v1/batches/{batch_id}": OWNER,
    "GET /v1/batches/{batch_id}/content": OWNER,
    "POST /v1/batches/{batch_id}/cancel": Row(Access.OWNER, is_live=True),
    "GET /v1/models/{model}/estimate": HOLDER,
    "GET /v1/usage": HOLDER,
    "PATCH /v1/keys/{key_id}": Row(Access.ADMIN, json={"daily_seconds": 60}),
    "GET /v1/admin/pauses": ADMIN,
    "POST /v1/admin/pause": Row(Access.ADMIN, json={"model": "model"}),
    "POST /v1/admin/resume": Row(Access.ADMIN, json={"model": "model"}),
    "DELETE /v1/jobs/{job_id}": Row(Access.OWNER, 204),
    "POST /v1/jobs/{job_id}/cancel": Row(Access.OWNER, is_live=True),
    "POST /v1/jobs/{job_id}/retry": Row(Access.OWNER, 202),
    "GET /v1/jobs/{job_id}/content": OWNER,
    "HEAD /v1/jobs/{job_id}/content": OWNER,
    "POST /v1/videos": Row(Access.HOLDER, is_form=True),
    "GET /v1/videos": HOLDER,
    "GET /v1/videos/{video_id}": OWNER,
    "DELETE /v1/videos/{video_id}": OWNER,
    "POST /v1/videos/{video_id}/cancel": Row(Access.OWNER, is_live=True),
    "POST /v1/videos/{video_id}/remix": Row(Access.OWNER, json={"prompt": "again"}),
    "GET /v1/videos/{video_id}/content": OWNER,
    "HEAD /v1/videos/{video_id}/content": OWNER,
    "POST /compat/replicate/v1/predictions": Row(Access.HOLDER, 201, json=PREDICTION),
    "GET /compat/replicate/v1/predictions": HOLDER,
    "GET /compat/replicate/v1/predictions/{prediction_id}": OWNER,
    "POST /compat/replicate/v1/predictions/{prediction_id}/cancel": Row(
        Access.OWNER, is_live=True
    ),
    "POST /compat/replicate/v1/models/{owner}/{model}/predictions": Row(
        Access.HOLDER, 201, json=PREDICTION
    ),
    "GET /compat/replicate/v1/models": HOLDER,
    "GET /compat/replicate/v1/models/{owner}/{model}": HOLDER,
    "GET /compat/replicate/v1/models/{owner}/{model}/versions": HOLDER,
    "GET /compat/replicate/v1/models/{owner}/{model}/versions/{version}": HOLDER,
    "GET /compat/replicate/v1/webhooks/default/secret": HOLDER,
    "POST /compat/replicate/v1/files": Row(Access.HOLDER, 201, is_form=True, part="content"),
    "GET /compat/replicate/v1/files/{file_id}": OWNER,
    "DELETE /compat/replicate/v1/files/{file_id}": Row(Access.OWNER, 204),
    "POST /v1/uploads": Row(Access.HOLDER, 201),
    "GET /v1/uploads/{upload_id}": OWNER,
    "DELETE /v1/uploads/{upload_id}": Row(Access.OWNER, 204),
    "POST /v1/uploads/{upload_id}/content": Row(Access.OWNER, 204, is_form=True, part="file"),
    "POST /generate": Row(Access.HOLDER, 202, is_form=True, headers={"Prefer": "respond-async"}),
    "GET /outputs/{file_name}": OWNER,
    "HEAD /outputs/{file_name}": OWNER,
    "GET /v1/models": HOLDER,
    "GET /v1/models/{model}": HOLDER,
    "GET /v1/queue": HOLDER,
    "GET /v1/webhook_event_types": HOLDER,
    "POST /v1/webhook_endpoints": Row(Access.HOLDER, json=ENDPOINT),
    "GET /v1/webhook_endpoints": HOLDER,
    "GET /v1/webhook_endpoints/{endpoint_id}": OWNER,
    "POST /v1/webhook_endpoints/{endpoint_id}": Row(Access.OWNER, json=RENAME),
    "PATCH /v1/webhook_endpoints/{endpoint_id}": Row(Access.OWNER, json=RENAME),
    "DELETE /v1/webhook_endpoints/{endpoint_id}": OWNER,
    "POST /v1/webhook_endpoints/{endpoint_id}/rotate_secret": OWNER,
    "POST /v1/webhook_endpoints/{endpoint_id}/test": OWNER,
    "GET /v1/webhook_endpoints/{endpoint_id}/deliveries": OWNER,
    "POST /v1/webhook_endpoints/{endpoint_id}/replay": Row(Access.OWNER, json=SINCE),
    "GET /v1/webhook_secret": HOLDER,
    "POST /v1/webhook_secret/rotate": HOLDER,
    "GET /v1/webhook_deliveries/{delivery_id}": OWNER,
    "POST /v1/webhook_deliveries/{delivery_id}/replay": OWNER,
    "POST /v1/keys": Row(Access.ADMIN, 201, json={"name": "made-by-the-matrix"}),
    "GET /v1/keys": ADMIN,
    "POST /v1/keys/{key_id}/rotate": ADMIN,
    "DELETE /v1/keys/{key_id}": ADMIN,
    "POST /v1/session": Row(Access.HOLDER, 201),
    "GET /v1/session": HOLDER,
    "DELETE /v1/session": Row(Access.HOLDER, 204),
    "GET /v1/admin/workers": ADMIN,
    "GET /v1/admin/failures": ADMIN,
    "GET /v1/admin/storage": ADMIN,
}
BY_ACCESS = {
    access: [route for route, row in EXPECTED.items() if row.access is access] for access in Access
}


@contextlib.contextmanager
def keeper(settings: Settings) -> Iterator[None]:
    """Deliver webhooks that are due while the block runs."""
    done = threading.Event()
    with contextlib.closing(JobFixture(settings)) as desk:
        sender = Sender(desk, delays=AT_ONCE, deadline=timedelta(seconds=60), allow=LOOPBACK)

        def walk() -> None:
            while not done.is_set():
                sender.step()

        thread = threading.Thread(target=walk)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            sender.deliverer.close()


def ask(who: Holder, route: str, named: dict[str, str]) -> requests.Response:
    """Send a route's request."""
    method, path = route.split(" ")
    row = EXPECTED[route]
    path += {"GET /docs/ui": "/swagger-ui.css", "GET /web": "/main.js"}.get(route, "")
    answer = who.send(
        method,
        path.format_map(named),
        json=row.json,
        files={row.part: ("a.png", photo_png())} if row.is_form else None,
        headers={"X-Request-ID": REQUEST_ID, **row.headers},
        allow_redirects=False,
        stream=row.is_stream,
    )
    return begun(answer) if row.is_stream else answer


def missing(named: dict[str, str]) -> dict[str, str]:
    """Return ids of the same form that belong to nothing."""
    fresh = uuid4().hex
    return {
        name: value if name in NOBODYS else value.replace(value.split("_")[1][:32], fresh)
        for name, value in named.items()
    }


def told(answer: requests.Response) -> tuple[int, bytes, dict[str, str]]:
    """Return everything in an answer except the time."""
    headers = {name: value for name, value in answer.headers.items() if name.lower() != "date"}
    return answer.status_code, answer.content, headers


def test_every_route_has_its_row_here() -> None:
    app = create_app(Settings(_env_file=None))
    walked = set(routes(app))
    assert set(described(app)) <= walked
    assert walked == EXPECTED.keys()


@pytest.mark.parametrize("route", BY_ACCESS[Access.PUBLIC])
def test_a_public_route_answers_everybody_alike(world: World, route: str) -> None:
    for who in (world.tenant, world.other, world.admin, *world.strangers.values()):
        assert ask(who, route, {}).status_code == EXPECTED[route].status


STRANGERS = ("none", "revoked", "rotated", "garbage")
KEPT_FROM_STRANGERS = [
    # Each run has every route with one of these strangers, in turn; `make test-all` has the
    # others.
    pytest.param(
        route, stranger, marks=[] if (number + place) % 4 == 0 else [pytest.mark.extended]
    )
    for number, route in enumerate(r for r in EXPECTED if EXPECTED[r].access is not Access.PUBLIC)
    for place, stranger in enumerate(STRANGERS)
]


@pytest.mark.parametrize(("route", "stranger"), KEPT_FROM_STRANGERS)
def test_nobody_without_a_good_key_gets_anything(world: World, route: str, stranger: str) -> None:
    named = world.standing()
    refused = ask(world.strangers[stranger], route, named)
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    if not route.startswith("HEAD"):
        code = "missing_api_key" if stranger == "none" else "invalid_api_key"
        assert refusal(refused) == (401, code)
    assert told(refused) == told(ask(world.strangers[stranger], route, missing(named)))


@pytest.mark.parametrize("route", BY_ACCESS[Access.HOLDER])
def test_a_holder_meets_its_own_things_only(world: World, route: str) -> None:
    named = world.standing()
    mine, theirs = (ask(who, route, named) for who in (world.tenant, world.other))
    assert mine.status_code == theirs.status_code == EXPECTED[route].status, mine.text
    for name, value in named.items():
        assert name in NOBODYS or value not in theirs.text
    if "secret" in route:
        assert mine.json()["key"] != theirs.json()["key"]


@pytest.mark.parametrize("route", BY_ACCESS[Access.OWNER])
def test_anothers_thing_is_told_from_a_missing_one_by_nothing(
    module_stack: Stack, world: World, route: str
) -> None:
    named = world.named(route)
    if EXPECTED[route].is_live:
        live = world.tenant.created()
        named |= {name: live for name, value in named.items() if value == named["job_id"]}
        named["batch_id"] = world.batch()
    for who in (world.other, world.admin):
        foreign, absent = (ask(who, route, names) for names in (named, missing(named)))
        assert told(foreign) == told(absent)
        assert foreign.status_code == 404
    assert told(ask(world.tenant, route, missing(named))) == told(foreign)
    # The owner asks last, which shows that no stranger's request before it had an effect.
    with keeper(module_stack.settings()) if route.endswith("/test") else nullcontext():
        mine = ask(world.tenant, route, named)
    assert mine.status_code == EXPECTED[route].status, mine.text


@pytest.mark.parametrize("route", BY_ACCESS[Access.ADMIN])
def test_only_an_admin_manages_the_house(world: World, route: str) -> None:
    named = world.named(route)
    for who in (world.tenant, world.other):
        assert refusal(ask(who, route, named)) == (403, "admin_only")
        assert told(ask(who, route, named)) == told(ask(who, route, missing(named)))
    assert ask(world.admin, route, named).status_code == EXPECTED[route].status


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/jobs?after={job_id}", "job_id"),
        ("/v1/webhook_endpoints?after={endpoint_id}", "endpoint_id"),
        ("/v1/webhook_endpoints/{own}/deliveries?after={delivery_id}", "delivery_id"),
        ("/v1/webhook_endpoints/{own}/deliveries?job_id={job_id}", "job_id"),
        ("/v1/webhook_endpoints/default/deliveries?after={delivery_id}", "delivery_id"),
    ],
)
def test_a_query_that_names_anothers_thing_tells_nothing_either(
    world: World, path: str, name: str
) -> None:
    named = world.belongings()
    body = {**ENDPOINT, "url": world.receiver.url("/other")}
    own = world.other.send("POST", "/v1/webhook_endpoints", json=body).json()["id"]
    headers = {"X-Request-ID": REQUEST_ID}
    foreign, absent = (
        world.other.get(path.format_map({**names, "own": own}), headers=headers)
        for names in (named, missing(named))
    )
    assert told(foreign) == told(absent)
    assert named[name] not in foreign.text


def test_one_holders_idempotency_key_is_not_anothers(world: World) -> None:
    headers = {"Idempotency-Key": "order-7"}
    mine, again, theirs = (
        who.create(headers=headers) for who in (world.tenant, world.tenant, world.other)
    )
    assert mine.json()["id"] == again.json()["id"] != theirs.json()["id"]


def test_a_deleted_job_is_a_missing_one(world: World) -> None:
    named = world.belongings()
    ask(world.tenant, "DELETE /v1/jobs/{job_id}", named)
    for route in ("GET /v1/jobs/{job_id}", "GET /outputs/{file_name}"):
        gone = ask(world.tenant, route, named)
        assert told(gone) == told(ask(world.tenant, route, missing(named)))


def test_a_path_that_is_no_route_needs_a_key_too(world: World) -> None:
    for path in (
        "/v1/nothing",
        "/docs/uix",
        "/docs/ui",
        "/web",
        "/webx",
        "/livez/",
        "//livez",
        "/V1/jobs",
    ):
        assert world.strangers["none"].get(path).status_code == 401, path
        assert world.tenant.get(path).status_code == 404, path


def test_the_metrics_name_no_owner_no_prompt_and_no_id(world: World) -> None:
    named = world.belongings()
    secret = uuid4().hex
    data = {"prompt": f"prompt-{secret}", "metadata[customer]": f"customer-{secret}"}
    world.tenant.create(data=data, headers={"Idempotency-Key": f"key-{secret}"})
    shown = world.strangers["none"].get("/metrics").text
    assert 'status="succeeded"' in shown
    assert secret not in shown
    names = [key.name for key in world.locksmith.keys.all()]
    assert not [name for name in names if name in shown]
    for value in (*named.values(), *(str(who.text) for who in world.strangers.values())):
        assert "_" not in value or value.split("_")[-1].removesuffix(".mp4") not in shown
