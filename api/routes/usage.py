"""What a caller asked for and received, by UTC day and model."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from api.auth.caller import Authenticated
from api.dependencies import Given, known_query
from api.openapi import PROBLEMS
from api.route import Route
from api.submit.body import refuse_nul
from shared.errors import InvalidRequest
from shared.jobs.create import MAX_MODEL_NAME
from shared.jobs.usage import DayUsage

router = APIRouter(
    route_class=Route,
    prefix="/v1/usage",
    tags=["usage"],
    dependencies=[Depends(known_query)],
    responses=PROBLEMS,
)

MOST_DAYS: Final = 366
DAYS: Final = 30
"""The days shown if `since` is left out, including today."""


class UsageDay(BaseModel):
    """One model's day: `video_seconds` are of clips, `render_seconds` of the work on all jobs.

    `reserved_seconds` are those of the clips submitted that day, except those that failed or were
    canceled; a daily limit is compared with them. `cost_usd` is what paid providers charged, by
    their own figures or the operator's price; `reserved_usd` is what the day's limit of money
    counts.
    """

    day: date
    model: str
    succeeded: int
    failed: int
    canceled: int
    video_seconds: float
    render_seconds: float
    reserved_seconds: float
    cost_usd: float
    reserved_usd: float

    @classmethod
    def of(cls, used: DayUsage) -> "UsageDay":
        return cls.model_validate({**used.__dict__, "model": used.engine})


class UsageTotals(BaseModel):
    succeeded: int
    failed: int
    canceled: int
    video_seconds: float
    render_seconds: float
    cost_usd: float


class QuotaView(BaseModel):
    """Today's limits; null if the key has none. `usd` is for paid providers."""

    daily_seconds: int | None
    reserved_seconds: float
    left_seconds: float | None
    daily_usd: float
    reserved_usd: float
    left_usd: float
    renews_at: datetime


class UsageView(BaseModel):
    object: Literal["usage"] = "usage"
    since: date
    until: date
    quota: QuotaView
    totals: UsageTotals
    data: list[UsageDay]


Model = Annotated[str | None, Query(max_length=MAX_MODEL_NAME)]


@router.get("")
def show_usage(
    ports: Given,
    caller: Authenticated,
    since: date | None = None,
    until: date | None = None,
    model: Model = None,
) -> UsageView:
    """Show usage by day and model, the newest day first, by default for the last 30 days."""
    refuse_nul(model, "model")
    last = until or datetime.now(UTC).date()
    # The first days of the calendar have no 29 days before them.
    first = since or date.fromordinal(max(1, last.toordinal() - DAYS + 1))
    if not timedelta(0) <= last - first < timedelta(days=MOST_DAYS):
        raise InvalidRequest(
            f"since {first} to until {last} is not 1 to {MOST_DAYS} days; ask for fewer, the"
            " earlier day as since",
            param="since",
        )
    days = ports.usage.days(owner_id=caller.owner_id, since=first, until=last, engine=model)
    today = ports.usage.today(caller.owner_id)
    daily = caller.daily_seconds
    own_usd, reserved_usd = caller.daily_usd, today.reserved_micros / 1_000_000
    daily_usd = ports.settings.paid_usd_per_day if own_usd is None else own_usd
    return UsageView(
        since=first,
        until=last,
        quota=QuotaView(
            daily_seconds=daily,
            reserved_seconds=today.reserved_seconds,
            left_seconds=None if daily is None else max(0.0, daily - today.reserved_seconds),
            daily_usd=daily_usd,
            reserved_usd=reserved_usd,
            left_usd=max(0.0, round(daily_usd - reserved_usd, 6)),
            renews_at=today.renews_at,
        ),
        totals=UsageTotals(
            succeeded=sum(day.succeeded for day in days),
            failed=sum(day.failed for day in days),
            canceled=sum(day.canceled for day in days),
            video_seconds=sum(day.video_seconds for day in days),
            render_seconds=sum(day.render_seconds for day in days),
            cost_usd=round(sum(day.cost_usd for day in days), 6),
        ),
        data=[UsageDay.of(day) for day in days],
    )
