"""A key's daily budget for hosted models: a submit reserves the price, an end settles it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from shared.errors import InvalidRequest, QuotaExceeded, RenderFailed
from shared.ids import new_id
from shared.jobs.checkpoints import Checkpoints
from shared.jobs.job import Artifact, Job, Result, Variant
from shared.jobs.transitions import Claim, Jobs
from tests.support.factory import JobFixture, NullAnnouncer, new_job
from tests.support.gateway import FakeWorker, Gateway, photo_png
from tests.support.providers.small_engine import SPEC
from tests.support.stack import Stack
from tests.support.tenants import KeyAdmin

PRICE = 100_000
LIMIT = 3 * PRICE
DONE = Result(
    ai_generated=True,
    artifacts={
        Variant.VIDEO: Artifact(key="k", content_type="video/mp4", bytes=1, sha256="0" * 64)
    },
)


class Till:
    """One owner's jobs, and the money of the day that is reserved and spent."""

    def __init__(self, settings: Any) -> None:
        self.desk = JobFixture(settings)
        self.owner: UUID = new_id()
        self.checkpoints = Checkpoints(self.desk.db)
        self.jobs = Jobs(
            self.desk.db,
            NullAnnouncer(),
            lease=settings.lease,
            first_try=settings.first_try,
            paid_micros=LIMIT,
        )

    def submit(self, price: int | None = PRICE) -> Job:
        new = new_job(spec=SPEC, owner_id=self.owner, price_micros=price)
        return self.jobs.submit(new, max_queued=100)[0]

    def claim(self) -> Claim:
        job = self.jobs.claim([SPEC.name], worker="w")
        assert job is not None
        return Claim(job.id, job.attempt)

    def note(self, claim: Claim, reached: str) -> None:
        self.checkpoints.write(claim, "remote", {"reached": reached})

    def days(self) -> list[tuple[int, int]]:
        """Return the money reserved and spent each day, the first day first."""
        rows = self.desk.run(
            "SELECT reserved_micros, cost_micros FROM usage_days WHERE owner_id = :owner"
            " ORDER BY day",
            owner=self.owner,
        )
        return [(row["reserved_micros"], row["cost_micros"]) for row in rows]

    def taken(self) -> tuple[int, int]:
        rows = self.desk.run(
            "SELECT reserved_micros, cost_micros FROM usage_days WHERE owner_id = :owner",
            owner=self.owner,
        )
        return (rows[0]["reserved_micros"], rows[0]["cost_micros"]) if rows else (0, 0)


@pytest.fixture
def till(module_stack: Stack) -> Any:
    till = Till(module_stack.settings())
    till.desk.run("DELETE FROM inputs")
    till.desk.run("DELETE FROM checkpoints")
    till.desk.run("DELETE FROM jobs")
    yield till
    till.desk.close()


def test_a_day_holds_under_parallel_submits(till: Till) -> None:
    def attempt(_: int) -> bool:
        try:
            till.submit()
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(attempt, range(12))) == [False] * 9 + [True] * 3
    assert till.taken() == (LIMIT, 0)
    # A job without a price costs nothing, and so it is not counted.
    till.submit(price=None)


def test_a_refusal_says_what_is_taken_and_when_the_day_ends(till: Till) -> None:
    till.submit(LIMIT - 1)
    with pytest.raises(QuotaExceeded, match=r"0\.30 USD a day.*0\.299999 USD are taken") as caught:
        till.submit(2)
    assert caught.value.retry_after_seconds
    with pytest.raises(InvalidRequest, match=r"costs 0\.300001 USD"):
        till.submit(LIMIT + 1)


@pytest.mark.parametrize(
    ("reached", "cost", "left"),
    [
        (None, None, (0, 0)),
        ("refused", None, (0, 0)),
        ("intended", None, (PRICE, PRICE)),
        ("made", None, (PRICE, PRICE)),
        ("done", 0.0, (0, 0)),
        ("done", 0.07, (70_000, 70_000)),
    ],
)
@pytest.mark.parametrize("end", ["fail", "cancel"])
def test_an_end_gives_back_what_was_not_spent(
    till: Till, end: str, reached: str | None, cost: float | None, left: tuple[int, int]
) -> None:
    job, claim = till.submit(), till.claim()
    if reached is not None:
        till.note(claim, reached)
    if cost is not None:
        till.checkpoints.write(claim, "cost", {"cost_usd": cost})
    if end == "fail":
        till.jobs.fail(claim, RenderFailed("no"), retryable=False, metrics={})
    else:
        till.jobs.cancel(job.id, owner_id=till.owner)
    assert till.taken() == left


def test_a_day_ends_at_midnight_by_utc_and_what_ends_later_is_given_back_to_its_own(
    till: Till,
) -> None:
    """A submit of yesterday takes nothing of today's budget, but its cost counts today."""
    jobs = [till.submit() for _ in range(3)]
    with pytest.raises(QuotaExceeded):
        till.submit()
    for table, column in (("jobs", "created_at"), ("usage_days", "day")):
        till.desk.run(
            f"UPDATE {table} SET {column} = {column} - interval '1 day'"  # noqa: S608 (constants)
            " WHERE owner_id = :owner",
            owner=till.owner,
        )
    for _ in range(3):
        till.submit()
    with pytest.raises(QuotaExceeded):
        till.submit()
    claims = [till.claim() for _ in range(2)]
    till.note(claims[0], "made")
    till.jobs.fail(claims[0], RenderFailed("no"), retryable=False, metrics={})
    till.jobs.fail(claims[1], RenderFailed("no"), retryable=False, metrics={})
    till.jobs.cancel(jobs[2].id, owner_id=till.owner)
    assert till.days() == [(PRICE, 0), (3 * PRICE, PRICE)]


def test_a_clip_counts_with_what_the_provider_took(till: Till) -> None:
    for cost in (None, 0.25):
        till.submit()
        claim = till.claim()
        till.note(claim, "done")
        if cost is not None:
            till.checkpoints.write(claim, "cost", {"cost_usd": cost})
        till.jobs.complete(claim, DONE, {})
    assert till.taken() == (PRICE + 250_000, PRICE + 250_000)
    with pytest.raises(QuotaExceeded):
        till.submit()


def test_canceling_again_and_again_does_not_get_round_it(till: Till) -> None:
    for _ in range(3):
        job, claim = till.submit(), till.claim()
        till.note(claim, "made")
        till.jobs.cancel(job.id, owner_id=till.owner)
    with pytest.raises(QuotaExceeded):
        till.submit()


def test_the_api_says_who_is_sent_the_image_and_what_is_left(
    tenant_a: Gateway, key_admin: KeyAdmin, fake_worker: FakeWorker
) -> None:
    fake_worker.offer(SPEC)
    _, holder = key_admin.holder(tenant_a, "cms")
    (model,) = [
        each for each in holder.send("GET", "/v1/models").json()["data"] if each["id"] == SPEC.name
    ]
    assert model["hosted"] == {"provider": "Runway", "model": "small", "usd_per_second": 0.1}
    assert model["buckets"]["512p"] == [[96, 64]]
    files = {"image": ("a.png", photo_png(size=(96, 64)))}
    form = {"model": SPEC.name, "prompt": "zoom", "num_frames": "8", "resolution": "256p"}
    made = holder.send("POST", "/v1/jobs", data=form, files=files)
    assert made.status_code == 202, made.text
    warnings = made.json()["warnings"]
    assert any("are sent to Runway" in each and "0.10 USD" in each for each in warnings)
    assert "resolution was ignored: small does not use it" in warnings
    usage = holder.send("GET", "/v1/usage").json()
    assert usage["quota"]["daily_usd"] == 10
    assert usage["quota"]["reserved_usd"] == pytest.approx(0.1)
    assert usage["quota"]["left_usd"] == pytest.approx(9.9)
    again = holder.send("POST", f"/v1/jobs/{made.json()['id']}/retry")
    assert again.status_code == 202, again.text
    assert any("are sent to Runway" in each for each in again.json()["warnings"])
    usage = holder.send("GET", "/v1/usage").json()
    assert usage["quota"]["reserved_usd"] == pytest.approx(0.2)
    _, poor = key_admin.holder(tenant_a, "poor", daily_usd=0.15)
    codes = [poor.send("POST", "/v1/jobs", data=form, files=files).status_code for _ in range(2)]
    assert codes == [202, 429]
    quota = poor.send("GET", "/v1/usage").json()["quota"]
    assert (quota["daily_usd"], quota["left_usd"]) == (0.15, pytest.approx(0.05))
    assert "stillreel_paid_usd_today" in holder.send("GET", "/metrics").text
