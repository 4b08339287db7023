"""An admin pauses the queue or one model: queued jobs wait, and running jobs go on."""

from collections.abc import Iterator
from typing import Any

import pytest

from api.monitoring.admin_queries import AdminQueries
from shared.jobs.job import Job
from tests.support.gateway import ADMIN_KEY, FakeWorker, Gateway, running_gateway
from tests.support.processes import until
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def one_house(module_stack: Stack) -> Iterator[Gateway]:
    with running_gateway(module_stack.settings(admin_key=ADMIN_KEY)) as gateway:
        yield gateway


@pytest.fixture
def house(one_house: Gateway, fake_worker: FakeWorker) -> Gateway:
    return one_house


def act(house: Gateway, verb: str, **asked: Any) -> list[dict[str, Any]]:
    answer = house.post(f"/v1/admin/{verb}", json=asked)
    assert answer.status_code == 200, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


def claimed(worker: FakeWorker, engine: str = "moves") -> Job | None:
    return worker.jobs.claim([engine], worker="hand")


def queue(house: Gateway) -> dict[str, Any]:
    body: dict[str, Any] = house.get("/v1/queue").json()
    return body


def test_a_paused_models_jobs_stay_queued_and_running_ones_end(
    house: Gateway, fake_worker: FakeWorker
) -> None:
    house.created(model="moves")
    running = fake_worker.claim()
    (shown,) = act(house, "pause", model="moves", reason="a new card")
    assert (shown["model"], shown["reason"]) == ("moves", "a new card")
    waiting = house.created(model="moves")
    other = house.created(model="model", prompt="zoom")

    assert claimed(fake_worker) is None
    taken = claimed(fake_worker, "model")
    assert taken is not None
    assert taken.public_id == other["id"]
    fake_worker.beat(running, 3)
    assert fake_worker.complete(running).is_terminal
    assert house.get(f"/v1/jobs/{waiting['id']}").json()["status"] == "queued"

    assert act(house, "resume", model="moves") == []
    started = claimed(fake_worker)
    assert started is not None
    assert started.public_id == waiting["id"]


def test_the_whole_queue_is_paused_where_no_model_is_named(
    house: Gateway, fake_worker: FakeWorker
) -> None:
    act(house, "pause")
    for model in ("moves", "model"):
        house.created(model=model, prompt="zoom")
        assert claimed(fake_worker, model) is None
    act(house, "resume", model="moves")
    assert claimed(fake_worker) is None, "the whole queue is paused still"
    act(house, "resume")
    assert claimed(fake_worker) is not None


def test_the_queue_and_readiness_say_what_is_paused(house: Gateway) -> None:
    assert not queue(house)["is_paused"]
    act(house, "pause", model="moves")
    lines = {line["model"]: line["is_paused"] for line in queue(house)["data"]}
    assert lines == {"moves": True, "model": False}
    until(lambda: house.get("/readyz").json()["paused"] == ["moves"], "readiness knows")
    assert house.get("/readyz").status_code == 200
    act(house, "pause")
    assert queue(house)["is_paused"]
    assert all(line["is_paused"] for line in queue(house)["data"])
    until(lambda: house.get("/readyz").json()["paused"] == ["*", "moves"], "readiness knows")
    assert [each["model"] for each in house.get("/v1/admin/pauses").json()["data"]] == [
        None,
        "moves",
    ]


def test_a_job_of_a_paused_model_is_told_that_its_start_is_unknown(house: Gateway) -> None:
    act(house, "pause", model="moves")
    job_id = house.created()["id"]
    until(
        lambda: house.get(f"/v1/jobs/{job_id}").json()["expected"]["unknown"] == "paused",
        "the job says so",
    )
    assert house.get(f"/v1/jobs/{job_id}").json()["expected"]["start_at"] is None


def test_a_paused_models_jobs_hold_no_turn_of_others_back(
    house: Gateway, fake_worker: FakeWorker
) -> None:
    """The place of a new job follows the jobs that may start; jobs of a paused model may not."""
    old = house.created(model="moves")
    with fake_worker.db.begin() as connection:
        connection.exec_driver_sql("UPDATE jobs SET claim_at = claim_at - interval '1 hour'")
    act(house, "pause", model="moves")
    new = house.created(model="model", prompt="zoom")
    with fake_worker.db.autocommit() as connection:
        rows = connection.exec_driver_sql("SELECT id, claim_at FROM jobs").all()
    places = {f"job_{row[0].hex}": row[1] for row in rows}
    assert (places[new["id"]] - places[old["id"]]).total_seconds() > 3000


def test_a_misspelled_model_is_not_paused(house: Gateway) -> None:
    answer = house.post("/v1/admin/pause", json={"model": "movse"})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model")
    assert house.post("/v1/admin/pause", json={"engine": "moves"}).status_code == 422


def test_only_admins_pause(house: Gateway, fake_worker: FakeWorker) -> None:
    key = house.post("/v1/keys", json={"name": "cms"}).json()["key"]
    headers = {"Authorization": f"Bearer {key}"}
    for verb in ("pause", "resume"):
        answer = house.post(f"/v1/admin/{verb}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "admin_only")


def test_storage_is_summed_by_owner_and_kind_within_bounds(
    house: Gateway, fake_worker: FakeWorker
) -> None:
    for _ in range(3):
        house.created(model="moves", outputs="gif")
        fake_worker.complete(fake_worker.claim(), b"12345")
    shown = house.get("/v1/admin/storage").json()
    kinds = {each["variant"]: (each["files"], each["bytes"]) for each in shown["by_variant"]}
    assert kinds == {"video": (3, 15), "gif": (3, 9)}
    assert (shown["bytes"], shown["is_partial"]) == (24, False)
    assert shown["free_bytes"] is None or shown["free_bytes"] > 0
    part = AdminQueries(fake_worker.db, looked_at=2).storage()
    assert ([each.bytes for each in part.owners], part.is_partial) == ([16], True)
