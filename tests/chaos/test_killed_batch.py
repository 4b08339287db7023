"""A batch of a hundred photos ends once, although its worker and its gateway are killed."""

import csv
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from tests.support.factory import png
from tests.support.ports import free_port
from tests.support.processes import crew, until
from tests.support.receiver import Receiver
from tests.support.stack import Stack

pytestmark = [pytest.mark.extended, pytest.mark.long, pytest.mark.timeout(1100)]

PHOTOS = 100
KILLED_AFTER = 30
PATIENCE_SECONDS = 60
SETTINGS = {"outbound_allow": "127.0.0.1/32", "lease_seconds": 10}


def photo(number: int) -> bytes:
    """Return a small image that differs from all others."""
    image = np.full((96, 128, 3), 40 + number, np.uint8)
    image[:, : number + 10, 1] = 200
    return png(image)


def created(url: str, webhook_url: str) -> str:
    """Create a batch of all photos and return its id."""
    made = requests.post(
        f"{url}/v1/batches",
        data={"num_frames": 8, "resolution": "256p", "webhook[url]": webhook_url},
        files=[("image", (f"{n}.png", photo(n), "image/png")) for n in range(PHOTOS)],
        timeout=4 * PATIENCE_SECONDS,
    )
    assert made.status_code == 202, made.text
    return str(made.json()["id"])


def test_a_batch_of_a_hundred_survives_a_kill_of_its_worker_and_its_gateway(
    stack: Stack, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def shown(path: str) -> dict[str, Any] | None:
        try:
            answer = requests.get(f"{url}{path}", timeout=PATIENCE_SECONDS)
        except requests.ConnectionError:
            return None
        body: dict[str, Any] = answer.json()
        return body if answer.status_code == 200 else None

    def counts() -> dict[str, int]:
        batch = until(lambda: shown(path), "the gateway answers")
        found: dict[str, int] = batch["counts"]
        return found

    with Receiver() as receiver, crew(stack, tmp_path) as people:
        gateway = people.start("api", port=port, **SETTINGS)
        people.keeper(**SETTINGS)
        worker = people.worker(**SETTINGS)
        until(lambda: (shown("/v1/models") or {}).get("data"), "a worker serves")
        path = f"/v1/batches/{created(url, receiver.url('/ends'))}"
        until(lambda: counts()["succeeded"] >= KILLED_AFTER, "some are done", within=400)
        worker.kill()
        gateway.kill()
        gateway = people.start("api", port=port, **SETTINGS)
        until(lambda: shown(path), "the gateway is back")
        assert shown(path)["status"] == "in_progress"  # type: ignore[index]  # It was just shown.
        people.worker(**SETTINGS)
        until(lambda: counts()["succeeded"] == PHOTOS, "all are done", within=600)
        (told,) = receiver.wait_for(1, "/ends")
        body = told.json()
        assert body["type"] == "batch.finished"
        assert body["data"]["counts"]["succeeded"] == PHOTOS
        batch = shown(path)
        assert batch is not None
        check_zip(batch["content_url"])
        # The webhook may be sent more than once, but it is one delivery.
        sent = {each.headers["webhook-id"] for each in receiver.requests}
        assert len(sent) == 1


def check_zip(url: str) -> None:
    """Assert that each photo has one clip and one row in the table."""
    zipped = requests.get(url, timeout=4 * PATIENCE_SECONDS)
    with zipfile.ZipFile(io.BytesIO(zipped.content)) as archive:
        assert archive.testzip() is None
        clips = [name for name in archive.namelist() if name.endswith(".mp4")]
        table = archive.read("results.csv").decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert len(set(clips)) == len(rows) == PHOTOS
    assert {row["status"] for row in rows} == {"succeeded"}
