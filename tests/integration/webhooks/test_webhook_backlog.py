"""A claim reads few deliveries, no matter how many of one owner are due."""

from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import text

from shared.owners import ANONYMOUS
from tests.support.many_rows import most_rows, plans
from tests.support.outbox import Outbox
from tests.support.receiver import Receiver
from worker.keeper.delivery_queue import BURIED, LOOKED_AT, DeliveryQueue, Kind

MOST_ROWS: Final = LOOKED_AT + 100
"""There are 4,000 of each kind."""

SLOW: Final = "https://slow.example.org/"


def pile_up(
    outbox: Outbox, endpoint_id: UUID, url: str, *, count: int = 4000, round_tries: int = 0
) -> None:
    """Make due deliveries to an endpoint; `{n}` in the URL is the number of each."""
    outbox.run(
        "INSERT INTO deliveries (id, owner_id, endpoint_id, event, url, next_at, round_tries)"
        " SELECT gen_random_uuid(), :owner, :endpoint, 'job.failed',"
        " replace(:url, '{n}', n::text), clock_timestamp() - interval '1 h', :round_tries"
        " FROM generate_series(1, :count) AS n",
        owner=ANONYMOUS,
        endpoint=endpoint_id,
        url=url,
        round_tries=round_tries,
        count=count,
    )


def analyze(outbox: Outbox) -> None:
    with outbox.db.autocommit() as connection:
        connection.execute(text("VACUUM ANALYZE deliveries, webhook_endpoints"))


def test_a_claim_reads_few_of_many_due_deliveries(outbox: Outbox) -> None:
    outbox.finish(webhook_url=SLOW)
    (one_off,) = outbox.run("SELECT id FROM webhook_endpoints WHERE url IS NULL")
    pile_up(outbox, one_off["id"], "https://host-{n}.example.org/")
    pile_up(outbox, outbox.endpoint(SLOW), SLOW)
    pile_up(outbox, outbox.endpoint(SLOW), SLOW, round_tries=1)
    analyze(outbox)
    queue = DeliveryQueue(outbox.db, lease=timedelta(minutes=1))

    for kind in Kind:

        def claim(kind: Kind = kind) -> None:
            queue.claim(
                kind,
                limit=50,
                busy_receiver_keys=[],
                proven_receiver_keys=["another"],
                per_receiver=2,
                per_owner=50,
                owners_room={},
            )

        assert max(map(most_rows, plans(outbox.db, claim).values())) <= MOST_ROWS


def test_the_deliveries_of_a_deleted_endpoint_end_in_parts(
    outbox: Outbox, receiver: Receiver
) -> None:
    pile_up(outbox, outbox.endpoint(SLOW), SLOW, count=BURIED + 1)
    outbox.run("UPDATE webhook_endpoints SET deleted_at = clock_timestamp()")
    outbox.finish(webhook_url=receiver.url())
    queue = DeliveryQueue(outbox.db, lease=timedelta(minutes=1))

    assert queue.bury() == BURIED
    outbox.sender().tried(1)

    assert len(receiver.requests) == 1
    (ended,) = outbox.run("SELECT count(*) AS n FROM deliveries WHERE status = 'dead'")
    assert ended["n"] == BURIED + 1
