"""A running job shows its owner how far its clip is, until the job ends."""

from typing import Any

import pytest
import requests

from shared.jobs.job import Job
from shared.jobs.preview_store import PreviewStore
from shared.jobs.transitions import Claim, Progress
from shared.jobs.view import JobView, etag
from shared.lifecycle import Stage
from tests.support.gateway import FakeWorker, Gateway
from tests.support.listener import Listening
from tests.support.stack import Stack
from tests.support.tenants import refusal

IMAGES = {step: b"RIFF\0\0\0\0WEBPVP8 at step %d" % step for step in (2, 4)}


@pytest.fixture
def store(module_stack: Stack) -> PreviewStore:
    url = module_stack.settings().redis_url.get_secret_value()
    return PreviewStore(url, socket_seconds=20)


def show(hand: FakeWorker, store: PreviewStore, job: Job, step: int) -> None:
    """Store a preview and beat, as a worker does."""
    assert store.put(job.id, job.attempt, IMAGES[step])
    progress = Progress(stage=Stage.DENOISING, step=step, total_steps=10, preview_step=step)
    hand.jobs.beat(Claim(job.id, job.attempt), progress)


def anonymous(url: str, method: str = "GET", **headers: str) -> requests.Response:
    return requests.request(method, url, headers=headers, timeout=30)


def test_a_poll_carries_a_link_to_the_newest_image_and_its_version_rises(
    gateway: Gateway, fake_worker: FakeWorker, store: PreviewStore
) -> None:
    path = f"/v1/jobs/{gateway.created()['id']}"
    assert gateway.get(path).json()["preview_url"] is None
    job = fake_worker.claim()
    fake_worker.beat(job, step=1)
    before = gateway.get(path).json()
    assert before["preview_url"] is None

    seen: list[dict[str, Any]] = []
    for step, image in IMAGES.items():
        show(fake_worker, store, job, step)
        seen.append(gateway.get(path).json())
        answer = anonymous(seen[-1]["preview_url"])
        assert (answer.status_code, answer.content) == (200, image)
        assert answer.headers["Content-Type"] == "image/webp"
        assert answer.headers["Cache-Control"].startswith("private")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]

    assert seen[0]["preview_url"] != seen[1]["preview_url"]
    assert before["version"] < seen[0]["version"] < seen[1]["version"]
    known = {"If-None-Match": answer.headers["ETag"]}
    assert anonymous(seen[1]["preview_url"], **known).status_code == 304
    head = anonymous(seen[1]["preview_url"], "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(IMAGES[4]))


def test_events_carry_it(gateway: Gateway, fake_worker: FakeWorker, store: PreviewStore) -> None:
    job_id = gateway.created()["id"]
    job = fake_worker.claim()
    stream = Listening(f"{gateway.url}/v1/jobs/{job_id}/events", {})
    try:
        assert stream.next().data["preview_url"] is None
        show(fake_worker, store, job, 2)
        told = stream.next().data["preview_url"]
        assert anonymous(told).content == IMAGES[2]
    finally:
        stream.close()


def test_a_new_signature_of_the_link_is_no_news(
    gateway: Gateway, fake_worker: FakeWorker, store: PreviewStore
) -> None:
    path = f"/v1/jobs/{gateway.created()['id']}"
    show(fake_worker, store, fake_worker.claim(), 2)
    answer = gateway.get(path)
    view = JobView.model_validate(answer.json())
    later = view.model_copy(update={"preview_url": f"{view.preview_url}later"})

    assert etag(view) == etag(later)
    known = {"If-None-Match": answer.headers["ETag"]}
    assert gateway.get(path, headers=known).status_code == 304


def test_the_image_is_in_redis_alone(
    gateway: Gateway, fake_worker: FakeWorker, store: PreviewStore
) -> None:
    gateway.created()
    job = fake_worker.claim()
    before = fake_worker.storage.keys("", after="", limit=100)
    show(fake_worker, store, job, 2)

    assert fake_worker.storage.keys("", after="", limit=100) == before
    with fake_worker.db.begin() as connection:
        row = connection.exec_driver_sql("SELECT row_to_json(j)::text FROM jobs j").scalar_one()
    assert "VP8" not in row
    assert '"preview_step":2' in row


def ended(gateway: Gateway, hand: FakeWorker, job: Job, how: str) -> None:
    path = f"/v1/jobs/{job.public_id}"
    match how:
        case "succeeded":
            hand.complete(job)
        case "canceled":
            assert gateway.post(f"{path}/cancel").status_code == 200
        case "deleted":
            assert gateway.http.delete(f"{gateway.url}{path}", timeout=30).status_code == 204
        case "handed back":
            hand.jobs.hand_back(Claim(job.id, job.attempt))


@pytest.mark.parametrize(
    ("how", "refused"),
    [
        ("succeeded", (410, "gone")),
        ("canceled", (410, "gone")),
        ("deleted", (404, "not_found")),
        ("handed back", (409, "job_not_ready")),
    ],
)
def test_a_preview_is_over_with_its_jobs_render(
    gateway: Gateway,
    fake_worker: FakeWorker,
    store: PreviewStore,
    how: str,
    refused: tuple[int, str],
) -> None:
    path = f"/v1/jobs/{gateway.created()['id']}"
    job = fake_worker.claim()
    show(fake_worker, store, job, 2)
    link = gateway.get(path).json()["preview_url"]

    ended(gateway, fake_worker, job, how)

    assert refusal(anonymous(link)) == refused
    assert refusal(gateway.get(f"{path}/content?variant=preview")) == refused
    if how != "deleted":
        assert gateway.get(path).json()["preview_url"] is None


def test_a_redis_that_lost_it_costs_the_image_alone(
    gateway: Gateway, fake_worker: FakeWorker, store: PreviewStore
) -> None:
    path = f"/v1/jobs/{gateway.created()['id']}"
    job = fake_worker.claim()
    show(fake_worker, store, job, 2)
    store.drop(job.id, job.attempt)

    assert refusal(gateway.get(f"{path}/content?variant=preview")) == (409, "job_not_ready")
    assert gateway.get(path).json()["progress"]["step"] == 2
    fake_worker.complete(job)
    assert gateway.get(f"{path}/content").status_code == 200


def test_before_the_first_image_there_is_none(gateway: Gateway, fake_worker: FakeWorker) -> None:
    path = f"/v1/jobs/{gateway.created()['id']}/content?variant=preview"
    assert refusal(gateway.get(path)) == (409, "job_not_ready")
    fake_worker.beat(fake_worker.claim(), step=1)
    assert refusal(gateway.get(path)) == (409, "job_not_ready")
