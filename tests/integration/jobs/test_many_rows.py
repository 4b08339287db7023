"""With many ended jobs and a long queue, every hot statement reads few pages."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import pytest
from sqlalchemy import event, text

from bench.noop import NoopEngine
from shared.ids import new_id
from shared.jobs.job import Job
from shared.jobs.listing import Filter
from shared.jobs.news import JobNews, Mark
from shared.lifecycle import Status
from shared.paging import Cut
from tests.support.factory import JobFixture
from tests.support.many_rows import fill_ended, fill_queued
from tests.support.stack import Stack, open_database

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

MOST_PAGES: Final = 200
FEW: Final = 20_000
"""Jobs enough that a statement without its index reads ten times as many pages as it may."""

MANY: Final = 100_000
OWNER: Final = UUID(int=7)
ENGINE: Final = NoopEngine.spec.name


@pytest.fixture(scope="module", params=[FEW, pytest.param(MANY, marks=pytest.mark.extended)])
def table(module_stack: Stack, request: pytest.FixtureRequest) -> Iterator[tuple[JobFixture, Job]]:
    """Yield a desk on a full table, and the owner's newest job."""
    settings = module_stack.settings()
    with contextlib.closing(JobFixture(settings)) as desk:
        job = desk.submit(owner_id=OWNER, metadata={"site": "harbour"})
        slow = open_database(settings, deadline=timedelta(minutes=8))
        with contextlib.closing(slow), slow.begin() as connection:
            fill_ended(connection, job.id, OWNER, request.param)
            fill_queued(connection, job.id, OWNER, request.param // 10)
        with contextlib.closing(slow), slow.autocommit() as connection:
            connection.execute(text("VACUUM ANALYZE jobs"))
        yield desk, job


def pages(desk: JobFixture, work: Callable[[], Any]) -> dict[str, int]:
    """Return the pages that each statement of the work reads, run again under EXPLAIN."""
    said: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        said.append((statement, values))

    event.listen(desk.db._engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        event.remove(desk.db._engine, "before_cursor_execute", note)
    found = {}
    with desk.db.begin() as connection:
        for statement, values in said:
            explained = connection.exec_driver_sql(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", values
            ).scalar_one()
            plan = explained[0]["Plan"]
            found[statement] = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        connection.rollback()
    return found


def listing(**options: Any) -> Callable[[JobFixture, Job], Any]:
    cut = Cut(
        limit=20,
        after=options.pop("after", None),
        newest_first=options.pop("newest_first", True),
    )
    return lambda desk, _: desk.queries.page(owner_id=OWNER, narrow=Filter(**options), cut=cut)


MIDDLE: Final = UUID(f"{1_600_000_000_000 + FEW // 2:012x}70008000{FEW // 2:012x}")

HOT: Final[dict[str, Callable[[JobFixture, Job], Any]]] = {
    "a poll": lambda desk, job: desk.queries.get(job.id, owner_id=OWNER),
    "a list": listing(),
    "a list from its middle": listing(after=MIDDLE),
    "a list from the oldest": listing(newest_first=False),
    "what failed": listing(status=Status.FAILED),
    "what was canceled": listing(status=Status.CANCELED),
    "what is queued": listing(status=Status.QUEUED),
    "a model's": listing(engine=ENGINE),
    "a model's that failed": listing(engine=ENGINE, status=Status.FAILED),
    "a model's that is not there": listing(engine="other"),
    "a batch's": listing(batch_id=new_id()),
    "what each has": listing(metadata={"site": "harbour"}),
    "a word that each has": listing(query="HARBOUR"),
    "a word of those that failed": listing(query="harbour", status=Status.FAILED),
    "a word of one model's": listing(query="harbour", engine=ENGINE),
    "a look": lambda desk, _: JobNews(desk.db).look({OWNER: _now(desk)}),
    "a page of live ones": lambda desk, _: JobNews(desk.db).live(
        OWNER, "queued", after=None, limit=100
    ),
    "a page of ended ones": lambda desk, _: JobNews(desk.db).ended(
        OWNER, Mark(_now(desk) - timedelta(days=30)), limit=100
    ),
    "a page of deleted ones": lambda desk, _: JobNews(desk.db).deleted(
        OWNER, Mark(_now(desk)), limit=100
    ),
}


def _now(desk: JobFixture) -> Any:
    return JobNews(desk.db).complete_until()


@pytest.mark.parametrize("name", HOT)
def test_a_hot_route_reads_few_pages(name: str, table: tuple[JobFixture, Job]) -> None:
    desk, job = table
    found = pages(desk, lambda: HOT[name](desk, job))
    assert max(found.values()) <= MOST_PAGES, found


def test_a_claim_reads_few_pages(table: tuple[JobFixture, Job]) -> None:
    desk, _ = table
    found = pages(desk, lambda: desk.jobs.claim([ENGINE], worker="w"))
    claims = [count for statement, count in found.items() if "SKIP LOCKED" in statement]
    assert claims
    assert max(claims) <= MOST_PAGES, found
