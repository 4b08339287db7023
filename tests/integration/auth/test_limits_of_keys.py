"""Limits of a key: certain models, only reading, or a number of clip seconds in a UTC day."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import requests
from sqlalchemy import text

from api import cli
from shared.api_keys.store import Keys
from shared.errors import OutOfMemory
from tests.support.gateway import FakeWorker, Gateway, beside, photo_png
from tests.support.processes import until
from tests.support.tenants import Holder, KeyAdmin, refusal

SMALL = photo_png(size=(48, 32))


def create(holder: Holder, **fields: Any) -> requests.Response:
    """Ask for a clip of one second, if `fields` does not change that."""
    values = {"num_frames": 8, "fps": 8, "prompt": "zoom", **fields}
    return holder.send("POST", "/v1/jobs", data=values, files={"image": ("a.png", SMALL)})


def usage(holder: Holder, query: str = "") -> dict[str, Any]:
    answer = holder.send("GET", f"/v1/usage{query}")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_a_key_uses_its_models_and_no_others(tenant_a: Gateway, key_admin: KeyAdmin) -> None:
    _, holder = key_admin.holder(tenant_a, "cms", models=["model"])
    assert refusal(create(holder, model="moves")) == (403, "model_not_allowed")
    assert create(holder, model="model").json()["model"] == "model"
    assert create(holder).json()["model"] == "model", "the best one that it may use"
    assert refusal(create(holder, model="none")) == (404, "unknown_model")
    assert [each["id"] for each in holder.send("GET", "/v1/models").json()["data"]] == ["model"]
    assert refusal(holder.send("GET", "/v1/models/moves")) == (403, "model_not_allowed")
    items = '[{"image": {"part": "a"}}, {"image": {"part": "b"}, "model": "moves"}]'
    parts = dict.fromkeys("ab", ("a.png", SMALL))
    batch = holder.send(
        "POST", "/v1/batches", data={"items": items, "prompt": "zoom"}, files=parts
    )
    assert refusal(batch) == (403, "model_not_allowed")
    assert batch.json()["error"]["param"] == "items.1.model"


def test_a_key_that_may_only_read_changes_nothing(tenant_a: Gateway, key_admin: KeyAdmin) -> None:
    _, holder = key_admin.holder(tenant_a, "screen", is_read_only=True)
    job = "/v1/jobs/job_00000000000000000000000000000000"
    for method, path in (
        ("POST", "/v1/jobs"),
        ("POST", "/v1/batches"),
        ("POST", f"{job}/cancel"),
        ("DELETE", job),
        ("POST", "/v1/webhook_endpoints"),
        ("POST", "/generate"),
    ):
        assert refusal(holder.send(method, path)) == (403, "read_only_key"), path
    assert holder.send("GET", "/v1/jobs").status_code == 200


WAITING = text(
    "SELECT count(DISTINCT pid) >= 3 FROM pg_locks JOIN pg_database d ON d.oid = database"
    " WHERE NOT granted AND d.datname = current_database()"
)


def test_a_days_seconds_hold_under_parallel_submits(
    tenant_a: Gateway, tenant_b: Gateway, key_admin: KeyAdmin
) -> None:
    """At least three submits wait for the table together, so none has seen another's row."""
    _, holder = key_admin.holder(tenant_a, "cms", daily_seconds=1)
    others = [Holder(gateway, holder.text) for gateway in (tenant_a, tenant_b)]
    with key_admin.db.begin() as connection:
        connection.execute(text("LOCK TABLE jobs IN SHARE MODE"))
        answers = [beside(partial(create, others[n % 2])) for n in range(6)]
        until(lambda: connection.execute(WAITING).scalar_one(), "submits wait")
    codes = sorted(each.result(60).status_code for each in answers)
    assert codes == [202] + [429] * 5
    assert usage(holder)["quota"]["left_seconds"] == 0


def test_a_refusal_says_when_the_day_ends(tenant_a: Gateway, key_admin: KeyAdmin) -> None:
    _, holder = key_admin.holder(tenant_a, "cms", daily_seconds=1)
    assert create(holder).status_code == 202
    answer = create(holder)
    assert refusal(answer) == (429, "quota_exceeded")
    tomorrow = datetime.now(UTC).replace(hour=0, minute=0, second=0) + timedelta(days=1)
    left = (tomorrow - datetime.now(UTC)).total_seconds()
    assert abs(int(answer.headers["Retry-After"]) - left) < 60
    assert f"{tomorrow:%Y-%m-%dT%H:%MZ}" in answer.json()["detail"]


def test_a_clip_that_no_day_has_room_for_is_told_so(
    tenant_a: Gateway, key_admin: KeyAdmin
) -> None:
    _, holder = key_admin.holder(tenant_a, "cms", daily_seconds=1)
    answer = create(holder, num_frames=16)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "num_frames")


def test_what_fails_or_is_canceled_gives_its_seconds_back(
    tenant_a: Gateway, key_admin: KeyAdmin, fake_worker: FakeWorker
) -> None:
    _, holder = key_admin.holder(tenant_a, "cms", daily_seconds=1)
    model = {"model": "moves"}
    first = create(holder, **model).json()["id"]
    assert create(holder, **model).status_code == 429
    holder.send("POST", f"/v1/jobs/{first}/cancel")
    second = create(holder, **model)
    assert second.status_code == 202
    fake_worker.fail(fake_worker.claim(), OutOfMemory("too large"))
    third = create(holder, **model)
    assert third.status_code == 202
    done = fake_worker.complete(fake_worker.claim())
    assert create(holder, **model).status_code == 429, "a clip was made"
    holder.send("DELETE", f"/v1/jobs/{done.public_id}")
    assert create(holder, **model).status_code == 429, "deleting it gives nothing back"


def test_what_a_day_took_is_given_back_on_that_day(
    tenant_a: Gateway, key_admin: KeyAdmin, fake_worker: FakeWorker
) -> None:
    key, holder = key_admin.holder(tenant_a, "cms", daily_seconds=2)
    first = create(holder, model="moves").json()["id"]
    with fake_worker.db.begin() as connection:
        for table, column in (("jobs", "created_at"), ("usage_days", "day")):
            connection.exec_driver_sql(
                f"UPDATE {table} SET {column} = {column} - interval '1 day'"  # noqa: S608
            )
    create(holder, model="moves")
    holder.send("POST", f"/v1/jobs/{first}/cancel")
    days = usage(holder)["data"]
    assert [(day["reserved_seconds"], day["canceled"]) for day in days] == [(1, 1), (0, 0)]
    assert key.daily_seconds == 2


def test_a_batch_takes_all_its_seconds_or_none(tenant_a: Gateway, key_admin: KeyAdmin) -> None:
    _, holder = key_admin.holder(tenant_a, "cms", daily_seconds=2)
    form = {"prompt": "zoom", "num_frames": 8, "fps": 8}

    def batch(images: int) -> requests.Response:
        files = [("image", ("a.png", SMALL))] * images
        return holder.send("POST", "/v1/batches", data=form, files=files)

    assert refusal(batch(3)) == (429, "quota_exceeded")
    assert usage(holder)["quota"]["reserved_seconds"] == 0
    assert batch(2).status_code == 202
    assert refusal(batch(1)) == (429, "quota_exceeded")


def test_usage_is_by_day_and_model(
    tenant_a: Gateway, key_admin: KeyAdmin, fake_worker: FakeWorker
) -> None:
    _, holder = key_admin.holder(tenant_a, "cms")
    _, stranger = key_admin.holder(tenant_a, "other")
    for _ in range(2):
        create(holder, model="moves")
        fake_worker.complete(fake_worker.claim())
    create(holder, model="model")
    shown = usage(holder)
    by_model = {day["model"]: day for day in shown["data"]}
    assert (by_model["moves"]["succeeded"], by_model["moves"]["video_seconds"]) == (2, 2)
    assert by_model["moves"]["render_seconds"] == 2
    assert (by_model["model"]["succeeded"], by_model["model"]["reserved_seconds"]) == (0, 1)
    assert shown["totals"]["video_seconds"] == 2
    assert shown["quota"]["daily_seconds"] is None
    assert [day["model"] for day in usage(holder, "?model=model")["data"]] == ["model"]
    assert usage(stranger)["data"] == []
    assert usage(holder, "?until=2020-01-01")["data"] == []


@pytest.mark.parametrize(
    "query", ["?since=2026-01-02&until=2026-01-01", "?since=2000-01-01", "?since=x", "?month=1"]
)
def test_a_wrong_span_of_days_is_refused(
    tenant_a: Gateway, key_admin: KeyAdmin, query: str
) -> None:
    _, holder = key_admin.holder(tenant_a, "cms")
    answer = holder.send("GET", f"/v1/usage{query}")
    assert answer.status_code == 422, answer.text


def test_an_admin_changes_what_a_key_may(tenant_a: Gateway, key_admin: KeyAdmin) -> None:
    _, admin = key_admin.holder(tenant_a, "boss", is_admin=True)
    limits = {"models": ["moves"], "is_read_only": True, "daily_seconds": 3}
    made = admin.send("POST", "/v1/keys", json={"name": "cms", **limits})
    assert made.status_code == 201, made.text
    assert {name: made.json()[name] for name in limits} == limits
    path = f"/v1/keys/{made.json()['id']}"
    holder = Holder(tenant_a, made.json()["key"])
    assert refusal(create(holder)) == (403, "read_only_key")
    changed = admin.send("PATCH", path, json={"is_read_only": False, "models": None})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["models"], changed.json()["daily_seconds"]) == (None, 3)
    assert create(holder, model="model").status_code == 202
    assert refusal(holder.send("PATCH", path, json={"daily_seconds": None})) == (
        403,
        "admin_only",
    )
    changes: tuple[dict[str, Any], ...] = (
        *({"models": []}, {"daily_seconds": 0}),
        *({"is_read_only": None}, {"name": "x"}),
    )
    for wrong in changes:
        assert admin.send("PATCH", path, json=wrong).status_code == 422, wrong
    admin.send("DELETE", path)
    assert refusal(admin.send("PATCH", path, json={})) == (409, "key_revoked")
    nobody = f"/v1/keys/key_{'0' * 32}"
    assert refusal(admin.send("PATCH", nobody, json={})) == (404, "not_found")


def test_an_admins_key_takes_no_daily_limit(tenant_a: Gateway, key_admin: KeyAdmin) -> None:
    _, admin = key_admin.holder(tenant_a, "boss", is_admin=True)
    wrong = {"name": "second", "is_admin": True, "daily_seconds": 3}
    answer = admin.send("POST", "/v1/keys", json=wrong)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "daily_seconds")


def test_the_command_makes_keys_with_limits(
    key_admin: KeyAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = cli.parse(
        [
            *("keys", "create", "screen", "--read-only", "--model", "moves"),
            *("--model", "model", "--daily-seconds", "60"),
        ]
    )
    cli._create(Keys(key_admin.db), asked)
    (key,) = key_admin.keys.all()
    assert (key.is_read_only, key.models, key.daily_seconds) == (
        True,
        frozenset({"moves", "model"}),
        60,
    )
    cli._list(Keys(key_admin.db), asked)
    listed = capsys.readouterr().out
    assert "model,moves" in listed
