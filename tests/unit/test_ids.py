"""Ids as clients write them: right ones are read, and each wrong one gets a named error."""

from uuid import UUID

import pytest

from shared.api_keys.key import KEY_ID
from shared.errors import InvalidRequest, NotFound
from shared.ids import PublicId, new_id
from shared.jobs.batch import BATCH_ID
from shared.jobs.job import JOB_ID
from shared.uploads import UPLOAD_ID
from shared.webhooks.endpoints import ENDPOINT_ID
from shared.webhooks.signing import DELIVERY_ID

KINDS = [JOB_ID, BATCH_ID, UPLOAD_ID, ENDPOINT_ID, DELIVERY_ID, KEY_ID]
ZEROS = "0" * 32


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.prefix)
def test_an_id_that_was_shown_is_read_back(kind: PublicId) -> None:
    row_id = new_id()
    assert kind.parse(kind.show(row_id)) == row_id
    assert kind.show(row_id).startswith(kind.prefix)


@pytest.mark.parametrize(
    "text",
    [
        *("", ZEROS, f"other_{ZEROS}", "{0}", f"{{0}}{ZEROS[1:]}", f"{{0}}{ZEROS}0"),
        *(
            "{0}" + "g" * 32,
            "{0}" + "٣" * 32,
            "{0}" + "_" * 32,
            f" {{0}}{ZEROS}",
            f"{{0}}{ZEROS} ",
        ),
        *(None, 7, ["{0}"]),
    ],
)
def test_what_is_no_id_is_not_found(text: object) -> None:
    for kind in KINDS:
        given = text.replace("{0}", kind.prefix) if isinstance(text, str) else text
        with pytest.raises(NotFound, match=kind.missing):
            kind.parse(given)


def test_no_kind_reads_the_ids_of_another() -> None:
    for kind in KINDS:
        for other in KINDS:
            if other is not kind:
                with pytest.raises(NotFound):
                    kind.parse(other.show(UUID(int=0)))


def test_a_wrong_id_in_a_query_names_its_parameter() -> None:
    assert JOB_ID.parse_query(None, "after", wrong="no cursor") is None
    with pytest.raises(InvalidRequest, match="no cursor") as refused:
        JOB_ID.parse_query("x", "after", wrong="no cursor")
    assert refused.value.param == "after"
