"""With many ended jobs and a long queue, every hot statement reads few pages."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import pytest
from sqlalchemy import text

from bench.noop import NoopEngine
from shared.engines.registry import EngineRegistry
from shared.ids import new_id
from shared.jobs.fairness import BONUS, PLACE, SHARE
from shared.jobs.job import Job, Priority
from shared.jobs.listing import Filter
from shared.jobs.news import JobNews, Mark
from shared.jobs.queue_boards import EXACT, QueueBoards
from shared.lifecycle import Status
from shared.paging import Cut
from tests.support.factory import JobFixture
from tests.support.many_rows import fill_ended, fill_queued, pages
from tests.support.stack import Stack, open_database

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

MOST_PAGES: Final = 200
MOST_SEARCHED_PAGES: Final = 3000
"""The limit for a search that finds less than a page. It reads 5,000 rows, or all 2,600 pages of
the smaller table. When it went by the ids of all statuses, it read 27,000 pages."""

FEW: Final = 20_000
"""With this many jobs, a statement without its index reads ten times as many pages as it may."""

MANY: Final = 100_000
OWNER: Final = UUID(int=7)
ENGINE: Final = NoopEngine.spec.name


@pytest.fixture(scope="module", params=[FEW, pytest.param(MANY, marks=pytest.mark.extended)])
def table(module_stack: Stack, request: pytest.FixtureRequest) -> Iterator[tuple[JobFixture, Job]]:
    """Yield a fixture on a full table, and the owner's newest job."""
    settings = module_stack.settings()
    with contextlib.closing(JobFixture(settings)) as desk:
        desk.run("TRUNCATE jobs CASCADE")
        job = desk.submit(owner_id=OWNER, metadata={"site": "harbour"})
        EngineRegistry(desk.db).offer([NoopEngine.spec])
        slow = open_database(settings, deadline=timedelta(minutes=8))
        with contextlib.closing(slow), slow.begin() as connection:
            fill_ended(connection, job.id, OWNER, request.param)
            fill_queued(connection, job.id, OWNER, request.param // 10)
        with contextlib.closing(slow), slow.autocommit() as connection:
            connection.execute(text("VACUUM ANALYZE jobs"))
        yield desk, job


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


SEARCHES: Final[dict[str, Callable[[JobFixture, Job], Any]]] = {
    "a word that none has": listing(query="nothing"),
    "a word that none of those that failed has": listing(query="nothing", status=Status.FAILED),
    "a word that none of a model's has": listing(query="nothing", engine=ENGINE),
    "a word that few have, page by page": listing(query="nothing", after=MIDDLE),
    "a word from the oldest": listing(query="nothing", newest_first=False),
    "what none has": listing(metadata={"site": "nowhere"}),
    "what one has": listing(metadata={"post": "77"}),
}


A_SUBMIT: Final = {
    "owner_id": new_id(),
    "engine": ENGINE,
    "priority": Priority.NORMAL,
    "share": SHARE,
    "bonus": BONUS[Priority.NORMAL],
    "max_running": 1,
}
"""The values with which a submit finds the place of its job."""


def _now(desk: JobFixture) -> Any:
    return JobNews(desk.db).complete_until()


@pytest.mark.parametrize("name", HOT)
def test_a_hot_route_reads_few_pages(name: str, table: tuple[JobFixture, Job]) -> None:
    desk, job = table
    found = pages(desk.db, lambda: HOT[name](desk, job))
    assert max(found.values()) <= MOST_PAGES, found


def test_the_queues_are_read_by_few_pages_while_their_ends_are_known(
    table: tuple[JobFixture, Job],
) -> None:
    desk, _ = table
    boards = QueueBoards(desk.db)
    first = boards.read().engine(ENGINE)
    found = pages(desk.db, boards.read)
    assert max(found.values()) <= MOST_PAGES, found
    assert first.queued > EXACT
    assert first.queued == boards.read().engine(ENGINE).queued


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_in_vain_reads_the_newest_rows_once(
    name: str, table: tuple[JobFixture, Job]
) -> None:
    desk, job = table
    found = pages(desk.db, lambda: SEARCHES[name](desk, job))
    assert max(found.values()) <= MOST_SEARCHED_PAGES, found


def test_one_who_is_full_costs_others_few_pages(table: tuple[JobFixture, Job]) -> None:
    desk, _ = table
    full = JobFixture(desk.settings.model_copy(update={"max_running_per_key": 1}))
    with contextlib.closing(full):
        full.jobs.claim([ENGINE], worker="w")  # It claims nothing if another test has claimed one.
        running = full.run("SELECT DISTINCT owner_id FROM jobs WHERE status = 'running'")
        assert [row["owner_id"] for row in running] == [OWNER]
        late = full.submit(owner_id=new_id(), spec=NoopEngine.spec)
        found = pages(full.db, lambda: full.jobs.claim([ENGINE], worker="w"))
        submits = pages(full.db, lambda: full.run(PLACE, **A_SUBMIT))
        assert full.get(late).status is Status.RUNNING
    for counted in (found, submits):
        assert max(counted.values()) <= MOST_PAGES, counted


def test_a_claim_reads_few_pages(table: tuple[JobFixture, Job]) -> None:
    desk, _ = table
    found = pages(desk.db, lambda: desk.jobs.claim([ENGINE], worker="w"))
    claims = [count for statement, count in found.items() if "SKIP LOCKED" in statement]
    assert claims
    assert max(claims) <= MOST_PAGES, found
