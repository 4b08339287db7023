"""A page of an owner's jobs, whose work does not grow with how many there are.

Each status is a walk along an index by id, and a page is merged from the five walks. Filters
without an index (`metadata`, `q`) search only the newest `SEARCHED` jobs.

A walk is bounded by rows, `(owner_id, status, id) < (…)`, and not by `owner_id = …`: only the
index that is meant has that order. Else Postgres may take the primary key's, where it believes
that the owner's jobs are many and near: of a status that few of a million have it reads them all.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, RowMapping, TextClause, text

from shared.errors import InvalidRequest
from shared.jobs.job import Job
from shared.jobs.news import LINKED
from shared.lifecycle import Status
from shared.paging import Cut, Page

SEARCHED: Final = 5000
FIRST_LOOK: Final = 200
"""Jobs that are read in order until a page is full; most searches end there."""

PASSED: Final = 10_000
"""The most rows that a search passes, because deleted ones and those of other models lie
between."""

WRONG_CURSOR: Final = "after is not the id of one of your jobs"


@dataclass(frozen=True)
class JobPage(Page[Job]):
    """Jobs in the order asked for; `is_cut` says that a search left older jobs out."""

    is_cut: bool = False


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What a listing is narrowed to; None and empty mean everything.

    `query` is searched in prompts and in values of metadata, in any letter case.
    """

    status: Status | None = None
    engine: str | None = None
    batch_id: UUID | None = None
    metadata: Mapping[str, str] | None = None
    query: str | None = None

    @property
    def is_search(self) -> bool:
        return bool(self.metadata) or self.query is not None


def read_page(
    connection: Connection, owner_id: UUID, narrow: Filter, cut: Cut, *, searched: int = SEARCHED
) -> JobPage:
    """Return up to `limit` jobs that follow `after` in the order asked for.

    Raises:
        InvalidRequest: `after` is not a job of this owner.
    """
    values = {
        "owner_id": owner_id,
        "status": narrow.status,
        "statuses": list(Status) if narrow.status is None else [narrow.status],
        "engine": narrow.engine,
        "batch_id": narrow.batch_id,
        "after": cut.after,
        "limit": cut.limit + 1,
        "low": _LOWEST if cut.newest_first or cut.after is None else cut.after,
        "high": cut.after if cut.newest_first and cut.after is not None else _HIGHEST,
        "lowest": _LOWEST,
        "highest": _HIGHEST,
        "searched": searched,
        "passed": PASSED,
        "first": FIRST_LOOK,
        "metadata": json.dumps(dict(narrow.metadata or {})),
        "query": narrow.query,
        "query_in_json": None if narrow.query is None else _in_json(narrow.query),
    }
    if cut.after is not None and connection.execute(_OWNS, values).first() is None:
        raise InvalidRequest(WRONG_CURSOR, param="after")
    found: Sequence[RowMapping] = ()
    if narrow.is_search and narrow.batch_id is None and cut.newest_first:
        # The newest of what is found are among the newest.
        found = connection.execute(_linked(_first_look(narrow, cut), cut), values).mappings().all()
    if len(found) <= cut.limit:
        found = connection.execute(_linked(_ids(narrow, cut), cut), values).mappings().all()
    is_cut = narrow.is_search and connection.execute(_IS_CUT, values).scalar_one()
    jobs = [Job.from_row(row) for row in found[: cut.limit]]
    return JobPage(jobs, has_more=len(found) > cut.limit, is_cut=is_cut)


def _in_json(query: str) -> str:
    """Return the text as it is in JSON that Postgres writes."""
    return json.dumps(query, ensure_ascii=False)[1:-1]


def _linked(ids: str, cut: Cut) -> TextClause:
    return text(f"{LINKED} WHERE id = ANY(ARRAY({ids})) ORDER BY id {_order(cut)}")


def _order(cut: Cut) -> str:
    return "DESC" if cut.newest_first else "ASC"


def _ids(narrow: Filter, cut: Cut) -> str:
    """Return the query of a page's ids, which walks along the index that has what is asked."""
    order = _order(cut)
    after = "" if cut.after is None else f"AND id {'<' if cut.newest_first else '>'} :after"
    if narrow.batch_id is not None:
        return _BATCH.format(after=after, order=order)
    if not narrow.is_search:
        return _walk(narrow, order, ":limit")
    return _search(narrow, order, after)


def _search(narrow: Filter, order: str, after: str) -> str:
    """Return the query that looks through an owner's newest jobs, or the newest of one status."""
    by, equal, live, engine = "owner_id, id", ":owner_id", "", ""
    if narrow.status is not None:
        by, equal = _columns(narrow)
        equal, live = equal.replace("one.name", ":status"), "AND deleted_at IS NULL"
    elif narrow.engine is not None:
        engine = "AND engine = :engine"
    ordered = _ordered(by, "DESC")
    return _SEARCH.format(
        by=by, equal=equal, live=live, engine=engine, ordered=ordered, order=order, after=after
    )


def _first_look(narrow: Filter, cut: Cut) -> str:
    after = "" if cut.after is None else "AND id < :after"
    window = _walk(narrow, "DESC", ":first", low=":lowest", high=":highest")
    return _FIRST_LOOK.format(window=window, after=after)


def _walk(
    narrow: Filter, order: str, limit: str, *, low: str = ":low", high: str = ":high"
) -> str:
    by, equal = _columns(narrow)
    return walk(by, equal, order=order, limit=limit, low=low, high=high)


def _columns(narrow: Filter) -> tuple[str, str]:
    """Return the columns of the index that has the filter, and their values except the id."""
    if narrow.engine is None:
        return "owner_id, status, id", ":owner_id, one.name"
    return "owner_id, engine, status, id", ":owner_id, :engine, one.name"


def walk(
    by: str, equal: str, *, order: str, limit: str, low: str = ":low", high: str = ":high"
) -> str:
    """Return a query of ids between two, in their order: up to `limit` of each status, merged.

    Args:
        by: the columns of the index, of which `id` is the last.
        equal: the values of those before it.
    """
    ordered = _ordered(by, order)
    return f"""
        SELECT id FROM unnest(CAST(:statuses AS text[])) AS one(name)
        CROSS JOIN LATERAL (
            SELECT id FROM jobs
            WHERE ({by}) > ({equal}, CAST({low} AS uuid))
                AND ({by}) < ({equal}, CAST({high} AS uuid)) AND deleted_at IS NULL
            ORDER BY {ordered} LIMIT {limit}) AS same
        ORDER BY id {order} LIMIT {limit}
    """  # noqa: S608 (constants)


def _ordered(by: str, order: str) -> str:
    return ", ".join(f"{column} {order}" for column in by.split(", "))


_LOWEST: Final = UUID(int=0)
_HIGHEST: Final = UUID(int=2**128 - 1)

# Searching metadata as one text is a fourth of the work of parsing it.
_MATCHES: Final = """
    metadata @> CAST(:metadata AS jsonb)
    AND (CAST(:query AS text) IS NULL
         OR strpos(lower(parameters ->> 'prompt'), lower(:query)) > 0
         OR (strpos(lower(CAST(metadata AS text)), lower(:query_in_json)) > 0
             AND EXISTS (SELECT FROM jsonb_each_text(metadata) AS pair
                         WHERE strpos(lower(pair.value), lower(:query)) > 0)))
"""

_FIRST_LOOK: Final = f"""
    SELECT id FROM jobs WHERE id = ANY(ARRAY({{window}})) AND deleted_at IS NULL {{after}}
        AND {_MATCHES}
    ORDER BY id DESC LIMIT :limit
"""  # noqa: S608 (constants)

# One pass over the rows as an index has them. By their ids, merged from five walks, it took twice
# as long; and of a status that one of a hundred has, three times.
_SEARCH: Final = f"""
    SELECT id FROM (
        SELECT id, metadata, parameters FROM (
            SELECT id, metadata, parameters, engine, deleted_at FROM jobs
            WHERE ({{by}}) > ({{equal}}, CAST(:lowest AS uuid))
                AND ({{by}}) < ({{equal}}, CAST(:highest AS uuid)) {{live}}
            ORDER BY {{ordered}} LIMIT :passed) AS passed
        WHERE deleted_at IS NULL {{engine}} LIMIT :searched) AS newest
    WHERE true {{after}} AND {_MATCHES}
    ORDER BY id {{order}} LIMIT :limit
"""  # noqa: S608 (constants)

# A batch has at most a hundred jobs, so they are read first, whatever other filters there are.
_BATCH: Final = f"""
    WITH batch AS MATERIALIZED (
        SELECT * FROM jobs WHERE batch_id = :batch_id AND owner_id = :owner_id
            AND deleted_at IS NULL)
    SELECT id FROM batch WHERE status = ANY(CAST(:statuses AS text[]))
        AND (CAST(:engine AS text) IS NULL OR engine = :engine) {{after}} AND {_MATCHES}
    ORDER BY id {{order}} LIMIT :limit
"""  # noqa: S608 (constants)

_OWNS: Final = text("SELECT FROM jobs WHERE id = :after AND owner_id = :owner_id")

# Of all statuses: a listing of few jobs is not called cut. They are named for the index's sake.
_NAMED: Final = ", ".join(f"'{status}'" for status in Status)
_IS_CUT: Final = text(f"""
    SELECT EXISTS (SELECT FROM jobs WHERE owner_id = :owner_id AND deleted_at IS NULL
                   AND status IN ({_NAMED}) OFFSET :searched LIMIT 1)
        OR EXISTS (SELECT FROM jobs WHERE owner_id = :owner_id OFFSET :passed LIMIT 1)
""")  # noqa: S608 (constants)
