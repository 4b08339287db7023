"""Expected starts and ends over HTTP, and how often those estimates were right."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.gateway import FakeWorker, Gateway
from tests.support.processes import until

ESTIMATE = "/v1/models/moves/estimate?image_width=96&image_height=64"


def rendered(gateway: Gateway, fake_worker: FakeWorker, count: int, seconds: float) -> None:
    """Make jobs that each end this many seconds after their start."""
    for _ in range(count):
        gateway.created()
        fake_worker.complete(fake_worker.claim())
    with fake_worker.db.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET finished_at = started_at + %(took)s WHERE status = 'succeeded'",
            {"took": timedelta(seconds=seconds)},
        )


def estimate(gateway: Gateway, query: str = "") -> dict[str, Any]:
    answer = gateway.get(ESTIMATE + query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def time_of(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_there_is_no_estimate_before_five_like_jobs_have_ended(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    rendered(gateway, fake_worker, 4, seconds=20)
    until(lambda: estimate(gateway)["like_jobs"] == 4, "they are known")
    found = estimate(gateway)
    assert (found["render_seconds"], found["end_at"]) == (None, None)
    assert found["unknown"] == "too_few_like_jobs_ended"
    job = gateway.created()
    assert job["expected"]["end_at"] is None
    assert job["expected"]["unknown"] == "too_few_like_jobs_ended"


def test_a_job_says_when_it_starts_and_ends(gateway: Gateway, fake_worker: FakeWorker) -> None:
    rendered(gateway, fake_worker, 5, seconds=20)
    until(lambda: estimate(gateway)["like_jobs"] == 5, "they are known")
    assert estimate(gateway)["render_seconds"] == 20
    first, second = gateway.created(), gateway.created()
    until(lambda: estimate(gateway)["queued"] == 2, "both are known")
    found = estimate(gateway)
    assert (found["wait_seconds"], found["end_seconds"]) == (40, 60)
    shown = [gateway.get(f"/v1/jobs/{job['id']}").json() for job in (first, second)]
    assert [job["queue"]["position"] for job in shown] == [1, 2]
    starts = [time_of(job["expected"]["start_at"]) for job in shown]
    ends = [time_of(job["expected"]["end_at"]) for job in shown]
    assert ends[0] - starts[0] == timedelta(seconds=20)
    assert timedelta(seconds=19) <= starts[1] - starts[0] <= timedelta(seconds=21)
    running = fake_worker.claim()
    fake_worker.beat(running, step=1)  # This beat says that 40 s are left.
    job = gateway.get(f"/v1/jobs/{first['id']}").json()
    assert job["expected"]["start_at"] == job["started_at"]
    assert job["expected"]["end_at"] is not None
    fake_worker.complete(running)
    assert gateway.get(f"/v1/jobs/{first['id']}").json()["expected"] is None


def test_what_is_expected_does_not_end_a_wait_for_a_change(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    rendered(gateway, fake_worker, 5, seconds=20)
    path = f"/v1/jobs/{gateway.created()['id']}"
    until(lambda: gateway.get(path).json()["expected"]["end_at"], "it is expected")
    shown = gateway.get(path)
    later = until(
        lambda: (
            (again := gateway.get(path)).json()["expected"] != shown.json()["expected"] and again
        ),
        "the time goes on",
    )
    assert later.headers["ETag"] == shown.headers["ETag"]


def test_the_queue_says_how_often_estimates_were_right(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    rendered(gateway, fake_worker, 5, seconds=20)
    until(lambda: estimate(gateway)["like_jobs"] == 5, "they are known")
    line = gateway.get("/v1/queue").json()["data"][0]
    assert line["estimates"] == {"judged": 0, "right": 0}
    for late in (0, 9, 60):
        gateway.created()
        job = fake_worker.complete(fake_worker.claim())
        with fake_worker.db.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE jobs SET finished_at = created_at + %(took)s WHERE id = %(id)s",
                {"took": timedelta(seconds=20 + late), "id": job.id},
            )
    line = gateway.get("/v1/queue").json()["data"][0]
    assert line["estimates"] == {"judged": 3, "right": 2}


def test_an_estimate_follows_what_is_asked(gateway: Gateway, fake_worker: FakeWorker) -> None:
    rendered(gateway, fake_worker, 5, seconds=20)
    until(lambda: estimate(gateway)["like_jobs"] == 5, "they are known")
    assert estimate(gateway, "&num_frames=32")["like_jobs"] == 0
    assert estimate(gateway, "&num_frames=32")["num_frames"] == 32


@pytest.mark.parametrize(
    ("query", "param"),
    [
        *(
            ("num_frames=1000", "num_frames"),
            ("frames=8", "frames"),
            ("num_frames=0", "num_frames"),
        ),
        *(("width=0", "width"), ("height=-0", "height"), ("fps=0", "fps"), ("width=9", "width")),
        *(("image_width=0", "image_width"), ("num_inference_steps=0", "num_inference_steps")),
    ],
)
def test_what_a_create_would_refuse_an_estimate_refuses(
    gateway: Gateway, query: str, param: str
) -> None:
    answer = gateway.get(f"/v1/models/moves/estimate?{query}")
    assert (answer.status_code, answer.json()["param"]) == (422, param)
    assert gateway.get("/v1/models/none/estimate").status_code == 404
