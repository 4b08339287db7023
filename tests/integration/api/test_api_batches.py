"""Batches over HTTP: many images are all queued or none is, and one zip has the clips."""

import csv
import io
import json
import time
import zipfile
from typing import Any
from uuid import uuid4

import pytest
import requests
from sqlalchemy import func, select, text

from shared.errors import OutOfMemory
from shared.jobs.storage_keys import INPUTS
from shared.tables.jobs import jobs
from tests.support.gateway import FakeWorker, Gateway, beside, data_uri, photo_png
from tests.support.processes import until

SMALL = photo_png(size=(48, 32))


def send(
    gateway: Gateway,
    *,
    images: int = 0,
    parts: dict[str, bytes] | None = None,
    items: Any = None,
    headers: dict[str, str] | None = None,
    **fields: Any,
) -> requests.Response:
    """Send a form to POST /v1/batches."""
    files = [("image", (f"{n}.png", SMALL, "image/png")) for n in range(images)]
    files += [(name, (name, body, "image/png")) for name, body in (parts or {}).items()]
    form = dict(fields)
    if items is not None:
        form["items"] = json.dumps(items)
    return gateway.post("/v1/batches", data=form, files=files, headers=headers)


def sent(gateway: Gateway, **fields: Any) -> dict[str, Any]:
    answer = send(gateway, **fields)
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


def jobs_of(gateway: Gateway, batch: dict[str, Any]) -> list[dict[str, Any]]:
    answer = gateway.get(f"/v1/jobs?batch_id={batch['id']}&order=asc&limit=100")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def count_jobs(worker: FakeWorker) -> int:
    with worker.db.autocommit() as connection:
        return int(connection.execute(select(func.count()).select_from(jobs)).scalar_one())


def unzipped(gateway: Gateway, batch: dict[str, Any]) -> tuple[zipfile.ZipFile, list[Any]]:
    answer = gateway.get(f"/v1/batches/{batch['id']}/content")
    assert answer.status_code == 200, answer.text
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    table = archive.read("results.csv").decode("utf-8-sig")
    return archive, list(csv.DictReader(io.StringIO(table, newline="")))


def test_each_image_part_becomes_a_job_with_the_shared_parameters(gateway: Gateway) -> None:
    batch = sent(gateway, images=3, prompt="a slow zoom", num_frames=8, **{"metadata[shop]": "1"})
    assert batch["object"] == "batch"
    assert batch["status"] == "in_progress"
    assert batch["counts"] == {
        **{"total": 3, "queued": 3, "running": 0},
        **{"succeeded": 0, "failed": 0, "canceled": 0},
    }
    assert batch["metadata"] == {"shop": "1"}
    for job in jobs_of(gateway, batch):
        assert job["batch_id"] == batch["id"]
        assert (job["input"]["prompt"], job["input"]["num_frames"]) == ("a slow zoom", 8)
        assert job["metadata"] == {"shop": "1"}


def test_an_item_overrides_what_all_share(gateway: Gateway) -> None:
    items = [
        {"image": {"part": "front"}, "seed": 7, "metadata": {"side": "front"}},
        {"image": {"part": "back"}, "prompt": "pan left", "steps": 12},
    ]
    batch = sent(
        gateway,
        parts={"front": SMALL, "back": SMALL},
        items=items,
        prompt="zoom",
        num_inference_steps=9,
        metadata=json.dumps({"shop": "1"}),
    )
    front, back = sorted(jobs_of(gateway, batch), key=lambda job: job["input"]["prompt"] != "zoom")
    assert (front["seed"], front["metadata"]) == (7, {"shop": "1", "side": "front"})
    assert (front["input"]["prompt"], front["input"]["num_inference_steps"]) == ("zoom", 9)
    assert (back["input"]["prompt"], back["input"]["num_inference_steps"]) == ("pan left", 12)
    assert back["metadata"] == {"shop": "1"}


def test_a_batch_in_json(gateway: Gateway) -> None:
    body = {"prompt": "zoom", "items": [{"image": {"data": data_uri(SMALL)}}] * 2}
    answer = gateway.post("/v1/batches", json=body)
    assert answer.status_code == 202, answer.text
    assert len(jobs_of(gateway, answer.json())) == 2
    assert answer.headers["Location"].endswith(f"/v1/batches/{answer.json()['id']}")


@pytest.mark.parametrize(
    ("item", "param", "word"),
    [
        ({"image": {"part": "a"}, "fps": 99}, "items.1.fps", "out of range"),
        ({"image": {"part": "a"}, "promt": "x"}, "items.1.promt", "prompt"),
        ({"image": {"part": "nobody"}}, "items.1.image.part", "there is 'a'"),
        ({"image": {"part": "a"}, "model": "none"}, "items.1.model", "no model"),
        ({"image": {"part": "a"}, "webhook": {"url": "https://x"}}, "items.1.webhook", "one"),
        ({"image": {"part": "broken"}}, "items.1.image", "items.1"),
        ({"prompt": "x"}, "items.1.image", "missing"),
        ("x", "items.1", "an object"),
    ],
)
def test_one_wrong_item_refuses_all_and_leaves_nothing(
    gateway: Gateway, fake_worker: FakeWorker, item: Any, param: str, word: str
) -> None:
    parts = {"a": SMALL, "b": SMALL}
    if "broken" in json.dumps(item):
        parts["broken"] = b"no image"
    items = [{"image": {"part": "b"}}, item, {"image": {"part": "a"}}]
    answer = send(gateway, parts=parts, items=items)
    assert answer.status_code in (404, 415, 422), answer.text
    problem = answer.json()
    assert problem["error"]["param"] == param, problem
    assert word in problem["detail"], problem
    assert count_jobs(fake_worker) == 0
    assert fake_worker.storage.keys(INPUTS, after="", limit=10) == []
    with fake_worker.db.autocommit() as connection:
        assert connection.execute(text("SELECT count(*) FROM batches")).scalar() == 0


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"parts": {"photo": SMALL}}, "image"),
        ({"items": [], "images": 1}, "items"),
        ({"items": [{"image": {"data": data_uri(SMALL)}}], "images": 1}, "items"),
        ({"items": [{"image": {"part": "image"}}] * 101, "images": 1}, "items"),
        ({"items": {"image": 1}, "images": 1}, "items"),
        ({"images": 1, "webhook": '{"url": "https://x", "event_types": ["x"]}'}, None),
        ({"images": 101}, None),
    ],
)
def test_a_body_that_is_no_batch_is_refused_in_words(
    gateway: Gateway, fields: dict[str, Any], param: str | None
) -> None:
    answer = send(gateway, **fields)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"]
    if param is not None:
        assert answer.json()["error"]["param"] == param


def test_a_hundred_small_photos_are_one_batch(gateway: Gateway) -> None:
    batch = sent(gateway, images=100, prompt="zoom")
    assert batch["counts"]["total"] == 100
    assert len(jobs_of(gateway, batch)) == 100


def test_the_same_key_gives_the_same_batch(gateway: Gateway, fake_worker: FakeWorker) -> None:
    headers = {"Idempotency-Key": uuid4().hex}
    first = sent(gateway, images=2, headers=headers)
    again = send(gateway, images=2, headers=headers)
    assert again.status_code == 202
    assert again.json()["id"] == first["id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert count_jobs(fake_worker) == 2
    assert len(fake_worker.storage.keys(INPUTS, after="", limit=10)) == 2
    other = send(gateway, images=2, prompt="another", headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")


def test_a_finished_batch_is_one_zip_with_a_table(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    batch = sent(gateway, images=3, prompt="=HYPERLINK(1)")
    path = f"/v1/batches/{batch['id']}"
    early = gateway.get(f"{path}/content")
    assert (early.status_code, early.json()["code"]) == (409, "batch_not_ready")
    made = fake_worker.claim()
    fake_worker.complete(made, b"film " * 100_000)
    fake_worker.fail(fake_worker.claim(), OutOfMemory("too large"))
    assert gateway.get(path).json()["progress"]["percent"] == 66
    gateway.post(f"{path}/cancel")

    shown = gateway.get(path).json()
    assert shown["status"] == "finished"
    assert [shown["counts"][end] for end in ("succeeded", "failed", "canceled")] == [1, 1, 1]
    assert shown["progress"]["percent"] == 100
    archive, rows = unzipped(gateway, batch)
    (film,) = [name for name in archive.namelist() if name != "results.csv"]
    assert archive.read(film) == b"film " * 100_000
    assert archive.getinfo(film).compress_type == zipfile.ZIP_STORED
    assert sorted(row["status"] for row in rows) == ["canceled", "failed", "succeeded"]
    assert [row["file"] for row in rows if row["status"] == "succeeded"] == [film]
    assert {row["error_code"] for row in rows} == {"", "gpu_out_of_memory"}
    assert {row["prompt"] for row in rows} == {"'=HYPERLINK(1)"}
    assert [int(row["position"]) for row in rows] == [1, 2, 3]


def test_a_file_that_is_gone_is_said_in_the_table(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    batch = sent(gateway, images=2)
    made = [fake_worker.complete(fake_worker.claim()) for _ in range(2)]
    fake_worker.storage.delete(made[0].result.artifacts["video"].key)  # type: ignore[union-attr,index]
    archive, rows = unzipped(gateway, batch)
    assert len(archive.namelist()) == 2
    assert sorted(row["status"] for row in rows) == ["expired", "succeeded"]


def test_a_deleted_job_leaves_no_words_in_the_table(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    batch = sent(gateway, images=2, prompt="a secret")
    made = [fake_worker.complete(fake_worker.claim()) for _ in range(2)]
    gateway.http.delete(f"{gateway.url}/v1/jobs/{made[0].public_id}", timeout=30)
    _, rows = unzipped(gateway, batch)
    (gone,) = [row for row in rows if row["job_id"] == made[0].public_id]
    assert (gone["status"], gone["prompt"], gone["file"]) == ("deleted", "", "")


def test_batches_are_listed_and_paged(gateway: Gateway) -> None:
    ids = [sent(gateway, images=1)["id"] for _ in range(3)]
    first = gateway.get("/v1/batches?limit=2").json()
    assert [each["id"] for each in first["data"]] == ids[:0:-1]
    assert first["has_more"]
    rest = gateway.get(f"/v1/batches?limit=2&after={first['last_id']}").json()
    assert [each["id"] for each in rest["data"]] == ids[:1]
    assert not rest["has_more"]
    assert gateway.get("/v1/batches?after=batch_x").status_code == 422


@pytest.mark.parametrize("path", ["", "/cancel", "/content"])
@pytest.mark.parametrize("name", [f"batch_{'0' * 32}", "batch_x", "job_x"])
def test_a_batch_that_is_missing_is_not_found(gateway: Gateway, path: str, name: str) -> None:
    method = "POST" if path == "/cancel" else "GET"
    url = f"{gateway.url}/v1/batches/{name}{path}"
    answer = gateway.http.request(method, url, timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_images_of_a_batch_wait_in_files_not_in_memory(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    """The bytes of a batch that waits for the decoders take none of the memory for bodies."""
    pools = gateway.ports.pools
    free = pools.body_memory.turns.free
    noise = photo_png(size=(1400, 1000))
    parts = {f"p{n}": noise for n in range(12)}
    items = [{"image": {"part": name}} for name in parts]
    with gateway.holding(pools.decoding._turns, pools.decoding._turns.free, owners=1):
        answer = beside(lambda: send(gateway, parts=parts, items=items))
        until(lambda: pools.body_memory.turns.free < free, "some are in memory")
        time.sleep(0.5)
        held = free - pools.body_memory.turns.free
    assert answer.result(60).status_code == 202
    assert len(noise) < held < 6 * len(noise)


def form_of(*parts: tuple[str, bytes], end: bytes = b"--b--\r\n") -> bytes:
    body = b""
    for name, content in parts:
        head = f"--b\r\nContent-Disposition: form-data; name={name}\r\n\r\n"
        body += head.encode() + content + b"\r\n"
    return body + end


def post_form(gateway: Gateway, body: bytes) -> requests.Response:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    return gateway.post("/v1/batches", data=body, headers=headers)


def test_a_batch_whose_form_was_cut_off_makes_no_jobs(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    image = ('"image"; filename="a.png"', SMALL)
    answer = post_form(gateway, form_of(image, image, end=b""))
    assert answer.status_code == 422, answer.text
    assert "the form is cut off" in answer.json()["detail"]
    assert count_jobs(fake_worker) == 0


def test_a_batch_takes_the_forms_and_blanks_that_a_create_takes(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    parts = [('"image"', SMALL), ('"image"; filename=""', b""), ('"image"', SMALL)]
    answer = post_form(gateway, form_of(*parts, ('"seed"', b"null"), ('"prompt"', b"still")))
    assert answer.status_code == 202, answer.text
    assert answer.json()["counts"]["total"] == 2
    item: dict[str, Any] = {
        "image": {"data": data_uri(SMALL)},
        "seed": "",
        "fps": [],
        "negative_prompt": None,
    }
    answer = gateway.post("/v1/batches", json={"items": [item], "num_frames": "", "webhook": {}})
    assert answer.status_code == 202, answer.text
