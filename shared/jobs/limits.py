"""The limits of an owner's waiting jobs and daily use, and why a submit was refused."""

from dataclasses import dataclass

from sqlalchemy import Connection

from shared.errors import AppError, InvalidRequest, QueueFull, QuotaExceeded
from shared.jobs.new_job import NewJob
from shared.jobs.usage import SPENDABLE, USED_TODAY, Today

RETRY_SECONDS = 30


@dataclass(frozen=True)
class Limits:
    """None means no limit; `daily_seconds` are of clips in a UTC day, and so is the money.

    `max_running` is for owners whose key has no such cap of its own.
    """

    max_queued: int
    daily_seconds: int | None
    paid_micros: int | None = None
    max_running: int | None = None


def refusal(
    connection: Connection, new: NewJob, limits: Limits, *, of_batch: int | None = None
) -> AppError:
    """Return why SUBMIT wrote no row for a new job."""
    daily = limits.daily_seconds
    if daily is not None:
        row = connection.execute(USED_TODAY, {"owner_id": new.owner_id}).mappings().one()
        today = Today(**row)
        if round(today.reserved_seconds * 1000) + new.clip_ms > daily * 1000:
            return _no_seconds_left(new.clip_ms / 1000, daily, today)
    if new.price_micros:
        owner = {"owner_id": new.owner_id}
        spendable = connection.execute(SPENDABLE, owner | {"paid_micros": limits.paid_micros})
        most = spendable.scalar()
        today = Today(**connection.execute(USED_TODAY, owner).mappings().one())
        if most is not None and today.reserved_micros + new.price_micros > most:
            return _no_money_left(new.price_micros, most, today)
    together = "" if of_batch is None else f", and this batch has {of_batch}"
    return QueueFull(
        f"you may have {limits.max_queued} jobs waiting{together}; wait for some to end",
        retry_after_seconds=RETRY_SECONDS,
    )


def _no_seconds_left(clip_seconds: float, daily: int, today: Today) -> AppError:
    if clip_seconds > daily:
        return InvalidRequest(
            f"the clip has {clip_seconds:g} s, and your key may ask for {daily} s a day;"
            " ask for fewer frames or more of them a second",
            param="num_frames",
        )
    return QuotaExceeded(
        f"your key may ask for {daily} s of clips a day, {today.reserved_seconds:g} s are taken"
        f" and this one has {clip_seconds:g} s; the day ends at {today.renews_at:%Y-%m-%dT%H:%MZ}",
        retry_after_seconds=today.renews_in_seconds,
    )


def _no_money_left(price: int, limit: int, today: Today) -> AppError:
    if price > limit:
        return InvalidRequest(
            f"the clip costs {dollars(price)}, and your key may spend {dollars(limit)} a day;"
            " ask for a shorter clip, or take a model that costs nothing",
            param="num_frames",
        )
    return QuotaExceeded(
        f"your key may spend {dollars(limit)} a day on hosted models,"
        f" {dollars(today.reserved_micros)} are taken and this clip costs {dollars(price)};"
        f" the day ends at {today.renews_at:%Y-%m-%dT%H:%MZ}",
        retry_after_seconds=today.renews_in_seconds,
    )


def dollars(micros: int) -> str:
    """Return millionths as people write dollars, with at least two places."""
    whole, parts = f"{micros / 1_000_000:.6f}".rstrip("0").split(".")
    return f"{whole}.{parts:0<2} USD"
