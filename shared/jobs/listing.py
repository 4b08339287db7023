"""A page of an owner's jobs, whose work does not grow with how many there are.

Each status is a walk along an index by id, and a page is merged from the five. What no index has
(`metadata`, `q`) is looked for among the newest `SEARCHED` only.
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
"""Of so many each is read by itself, until a page is full; all of 5,000 are read and sorted."""
WRONG_CURSOR: Final = "after is not the id of one of your jobs"


@dataclass(frozen=True)
class JobPage(Page[Job]):
    """Jobs in the order asked for; `is_cut` says that a search left older jobs out."""

    is_cut: bool = False


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What a listing narrows to; None and empty mean everything.

    `query` is looked for in prompts and in values of metadata, in any case of letters.
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
        "statuses": list(Status) if narrow.status is None else [narrow.status],
        "engine": narrow.engine,
        "batch_id": narrow.batch_id,
        "after": cut.after,
        "limit": cut.limit + 1,
        "searched": searched,
        "first": FIRST_LOOK,
        "metadata": json.dumps(dict(narrow.metadata or {})),
        "query": narrow.query,
    }
    if cut.after is not None and connection.execute(_OWNS, values).first() is None:
        raise InvalidRequest(WRONG_CURSOR, param="after")
    found: Sequence[RowMapping] = ()
    if narrow.is_search and narrow.batch_id is None and cut.newest_first:
        # The newest of what is found are among the newest: most searches end here.
        found = connection.execute(_first_look(narrow, cut), values).mappings().all()
    if len(found) <= cut.limit:
        found = connection.execute(_statement(narrow, cut), values).mappings().all()
    is_cut = narrow.is_search and connection.execute(_IS_CUT, values).first() is not None
    jobs = [Job.from_row(row) for row in found[: cut.limit]]
    return JobPage(jobs, has_more=len(found) > cut.limit, is_cut=is_cut)


def _statement(narrow: Filter, cut: Cut) -> TextClause:
    """Return the statement whose walk goes along the index that has what is asked."""
    order = "DESC" if cut.newest_first else "ASC"
    after = "" if cut.after is None else f"AND id {'<' if cut.newest_first else '>'} :after"
    if narrow.batch_id is not None:
        ids = _BATCH.format(after=after, order=order)
    elif narrow.is_search:
        ids = _SEARCH.format(
            window=_walk(narrow, "id, metadata, parameters", "DESC", "", ":searched"),
            after=after,
            order=order,
        )
    else:
        ids = _walk(narrow, "id", order, after, ":limit")
    return text(f"{LINKED} WHERE id = ANY(ARRAY({ids})) ORDER BY id {order}")


def _first_look(narrow: Filter, cut: Cut) -> TextClause:
    """Return the statement that searches the newest few: their ids by an index alone, in order."""
    after = "" if cut.after is None else "AND jobs.id < :after"
    ids = _FIRST_LOOK.format(window=_walk(narrow, "id", "DESC", "", ":first"), after=after)
    return text(f"{LINKED} WHERE id = ANY(ARRAY({ids})) ORDER BY id DESC")


def _walk(narrow: Filter, columns: str, order: str, after: str, limit: str) -> str:
    engine = "" if narrow.engine is None else "AND engine = :engine"
    return WALK.format(columns=columns, order=order, after=after, limit=limit, engine=engine)


WALK: Final = """
    SELECT {columns} FROM unnest(CAST(:statuses AS text[])) AS one(name)
    CROSS JOIN LATERAL (
        SELECT {columns} FROM jobs
        WHERE owner_id = :owner_id AND status = one.name AND deleted_at IS NULL {engine} {after}
        ORDER BY id {order} LIMIT {limit}) AS same
    ORDER BY id {order} LIMIT {limit}
"""

_MATCHES: Final = """
    metadata @> CAST(:metadata AS jsonb)
    AND (CAST(:query AS text) IS NULL
         OR strpos(lower(parameters ->> 'prompt'), lower(:query)) > 0
         OR EXISTS (SELECT FROM jsonb_each_text(metadata) AS pair
                    WHERE strpos(lower(pair.value), lower(:query)) > 0))
"""

_SEARCH: Final = f"""
    SELECT id FROM ({{window}}) AS newest WHERE true {{after}} AND {_MATCHES}
    ORDER BY id {{order}} LIMIT :limit
"""  # noqa: S608 (constants)

_FIRST_LOOK: Final = f"""
    SELECT jobs.id FROM ({{window}}) AS newest JOIN jobs ON jobs.id = newest.id
    WHERE true {{after}} AND {_MATCHES}
    ORDER BY jobs.id DESC LIMIT :limit
"""  # noqa: S608 (constants)

# A batch has a hundred jobs at most: they are read first, whatever else is asked of them.
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
_IS_CUT: Final = text(
    "SELECT FROM jobs WHERE owner_id = :owner_id AND deleted_at IS NULL"
    f" AND status IN ({', '.join(repr(str(status)) for status in Status)})"
    " OFFSET :searched LIMIT 1"
)
