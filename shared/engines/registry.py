"""Which workers serve which engines: the workers' reports, and the engines that they offered."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import text

from shared.db import PATIENCE_SECONDS, Database
from shared.engines.spec import EngineSpec
from shared.engines.weights import WeightsView, best_of
from shared.errors import CardsLost, Starting, UnknownModel
from shared.excerpt import excerpt
from shared.loop_reads import LoopReads

WORKER_ALIVE_SECONDS: Final = 30


LOST: Final = "lost"
"""The state of a worker whose card fell off the bus; the host's supervisor shows it."""


@dataclass(frozen=True, kw_only=True)
class WorkerInfo:
    """A worker by its own report: for clients, admission and metrics, never for the reaper.

    `free_bytes` is the free space in the folder where it makes clips; `weights` has each engine
    whose weights it knows about.
    """

    name: str
    host: str
    pid: int
    device: str
    device_name: str | None
    vram_bytes: int | None
    engines: Sequence[str]
    resident_engine: str | None
    state: str
    model_loads: int
    load_seconds: float = 0.0
    free_bytes: int | None = None
    weights: Mapping[str, WeightsView] = field(default_factory=dict)


@dataclass(frozen=True)
class OfferedEngine:
    """An engine that this installation has served, and how many live workers serve it now.

    `card_bytes` is the memory of the largest card among them, `free_bytes` the most free space on
    a disk; None if there is no worker, or one does not know its own value.
    """

    spec: EngineSpec
    workers: int
    updated_at: datetime
    card_bytes: int | None = None
    free_bytes: int | None = None
    lost_cards: int = 0
    """Cards that would serve it, but fell off the bus."""
    weights: WeightsView | None = None
    """The state at the worker that is nearest to rendering; None if no worker reports it."""


class OfferHeads:
    """Reads on the event loop the parts of offers that may change, in order."""

    def __init__(
        self, url: str, *, deadline: timedelta, name: str, patience_seconds: int = PATIENCE_SECONDS
    ) -> None:
        self._reads = LoopReads(
            url, _HEADS, deadline=deadline, name=name, patience_seconds=patience_seconds
        )

    async def all(self) -> tuple[str, ...]:
        """Return one text for each offer, equal while the offer is unchanged.

        Raises:
            DatabaseUnavailable: Postgres did not answer in time.
        """
        return tuple(await self._reads.values())

    def close(self) -> None:
        self._reads.close()


class EngineRegistry:
    def __init__(self, db: Database) -> None:
        self._db = db
        self._specs: dict[str, tuple[datetime, EngineSpec]] = {}

    def offer(self, specs: Sequence[EngineSpec]) -> None:
        """Make these engines known to the gateway, best first."""
        with self._db.begin() as connection:
            for rank, spec in enumerate(specs):
                connection.execute(
                    _OFFER, {"name": spec.name, "spec": spec.model_dump_json(), "rank": rank}
                )

    def beat(self, card: WorkerInfo) -> None:
        weights = {name: view.model_dump(mode="json") for name, view in card.weights.items()}
        values = {
            **card.__dict__,
            "engines": list(card.engines),
            "weights": json.dumps(weights),
        }
        with self._db.autocommit() as connection:
            connection.execute(_BEAT, values)

    def offers(self) -> list[OfferedEngine]:
        """Return every engine known here; those that are served now come first, the best first."""
        with self._db.autocommit() as connection:
            rows = connection.execute(_OFFERS, {"alive": WORKER_ALIVE_SECONDS}).all()
        return [
            OfferedEngine(
                self._known(spec, updated_at),
                workers,
                updated_at,
                card_bytes=card_bytes,
                free_bytes=free_bytes,
                lost_cards=lost_cards,
                weights=best_of(weights or ()),
            )
            for spec, weights, workers, updated_at, card_bytes, free_bytes, lost_cards in rows
        ]

    def _known(self, written: Mapping[str, Any], updated_at: datetime) -> EngineSpec:
        """Return the spec that was read from this row before: reading it is half of a look."""
        name = written["name"]
        known = self._specs.get(name)
        if known is None or known[0] != updated_at:
            known = self._specs[name] = updated_at, EngineSpec.model_validate(written)
        return known[1]

    def choose(self, name: str | None) -> OfferedEngine:
        """Return the offer of that name, or the best that this installation serves.

        Raises:
            Starting: no worker has offered an engine yet, so the name may be valid.
            UnknownModel: no worker has ever offered it; the message names those that exist.
        """
        offers = self.offers()
        for offer in offers:
            if name is None or offer.spec.name == name:
                return offer
        if not offers:
            raise Starting(
                "no worker has started yet: the first is still starting, and no model is known"
                " until it has registered; try again in a few seconds"
            )
        known = ", ".join(offer.spec.name for offer in offers)
        raise UnknownModel(
            f"there is no model {excerpt(name)} here; there is {known}", param="model"
        )

    def check_cards(self) -> None:
        """Check for cards that fell off the bus.

        Raises:
            CardsLost: some cards did; the host's log names them.
        """
        with self._db.autocommit() as connection:
            lost = connection.execute(_LOST, {"alive": WORKER_ALIVE_SECONDS}).scalar_one()
        if lost:
            raise CardsLost(
                f"{lost} card{'s' if lost > 1 else ''} fell off the bus; reset it or restart its"
                " host, whose log names it (card_lost); the others go on"
            )

    def live_workers(self) -> int:
        with self._db.autocommit() as connection:
            return int(connection.execute(_LIVE, {"alive": WORKER_ALIVE_SECONDS}).scalar_one())


_OFFER: Final = text(
    "INSERT INTO engines (name, spec, rank) VALUES (:name, CAST(:spec AS jsonb), :rank)"
    " ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, rank = excluded.rank,"
    " updated_at = clock_timestamp()"
)

_BEAT: Final = text("""
INSERT INTO workers (name, host, pid, device, device_name, vram_bytes, engines,
                     resident_engine, state, model_loads, load_seconds, free_bytes, weights)
VALUES (:name, :host, :pid, :device, :device_name, :vram_bytes, :engines,
        :resident_engine, :state, :model_loads, :load_seconds, :free_bytes,
        CAST(:weights AS jsonb))
ON CONFLICT (name) DO UPDATE SET
    host = excluded.host, pid = excluded.pid, device = excluded.device,
    device_name = excluded.device_name, vram_bytes = excluded.vram_bytes,
    engines = excluded.engines, resident_engine = excluded.resident_engine,
    state = excluded.state, model_loads = excluded.model_loads,
    load_seconds = excluded.load_seconds, free_bytes = excluded.free_bytes,
    weights = excluded.weights,
    started_at = CASE WHEN workers.pid = excluded.pid THEN workers.started_at
                      ELSE clock_timestamp() END,
    beat_at = clock_timestamp()
""")

_WEIGHTS: Final = "jsonb_agg(w.weights -> e.name) FILTER (WHERE w.weights ? e.name)"
_WORKERS: Final = """
    count(w.name), e.updated_at,
    CASE WHEN bool_and(coalesce(w.vram_bytes, 0) > 0) THEN max(w.vram_bytes) END
"""
_FREE: Final = "CASE WHEN bool_and(w.free_bytes IS NOT NULL) THEN max(w.free_bytes) END"
_LOST_CARDS: Final = """
    (SELECT count(*) FROM workers l WHERE e.name = ANY(l.engines) AND l.state = 'lost'
     AND l.beat_at > clock_timestamp() - make_interval(secs => {alive}))
"""

_FROM: Final = """
FROM engines e LEFT JOIN workers w ON e.name = ANY(w.engines)
    AND w.state NOT IN ('stopped', 'lost')
    AND w.beat_at > clock_timestamp() - make_interval(secs => {alive})
GROUP BY e.name, e.rank, e.updated_at
ORDER BY (count(w.name) > 0) DESC, e.rank, e.name
"""

_OFFERS: Final = text(
    f"SELECT e.spec, {_WEIGHTS}, {_WORKERS}, {_FREE}, {_LOST_CARDS} {_FROM}".format(alive=":alive")
)

# Without the specs, which are long: one that changes has another `updated_at`. Also without the
# free space on disks, which changes with each beat and is shown to no client.
_HEADS: Final = (
    f"SELECT jsonb_build_array(e.name, {_WEIGHTS}, {_WORKERS}, {_LOST_CARDS})::text {_FROM}"
).format(alive=WORKER_ALIVE_SECONDS)

_LIVE: Final = text(
    "SELECT count(*) FROM workers WHERE state NOT IN ('stopped', 'lost')"
    " AND beat_at > clock_timestamp() - make_interval(secs => :alive)"
)

_LOST: Final = text(
    "SELECT count(*) FROM workers WHERE state = 'lost'"
    " AND beat_at > clock_timestamp() - make_interval(secs => :alive)"
)
