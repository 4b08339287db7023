"""Files are sent before the jobs that use them, to the gateway or to a public store."""

import pytest
import requests
from sqlalchemy import insert, select

from shared.ids import new_id
from shared.jobs.storage_keys import UPLOADS
from shared.tables.jobs import uploads
from shared.uploads import MAX_LIVE
from tests.integration.api.test_api_inputs import refused, stored
from tests.support.gateway import (
    FakeWorker,
    Gateway,
    photo_png,
    running_gateway,
)
from tests.support.stack import Stack


def test_an_upload_through_the_gateway_becomes_the_image_of_jobs(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    upload = gateway.post("/v1/uploads").json()
    assert (upload["kind"], upload["fields"], upload["bytes"]) == ("image", {}, None)
    early = gateway.post("/v1/jobs", json={"image": {"upload_id": upload["id"]}})
    assert refused(early) == (422, "invalid_request", "image.upload_id")
    sent = photo_png(size=(120, 90))
    answer = requests.post(upload["url"], files={"file": sent}, timeout=30)
    assert answer.status_code == 204, answer.text
    path = f"/v1/uploads/{upload['id']}"
    assert gateway.get(path).json()["bytes"] == len(sent)
    jobs = [
        gateway.post("/v1/jobs", json={"image": {"upload_id": upload["id"]}}).json()
        for _ in range(2)
    ]
    assert {job["input"]["image_width"] for job in jobs} == {120}
    assert gateway.http.delete(f"{gateway.url}{path}", timeout=30).status_code == 204
    assert gateway.get(path).status_code == 404
    assert stored(fake_worker, UPLOADS) == []
    for job in jobs:
        assert gateway.get(f"/v1/jobs/{job['id']}/content?variant=input").status_code == 200


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"image": b"x"}, "invalid_request"),
        ({"file": b"x", "other": b"y"}, "invalid_request"),
        ({"file": b"x" * 5000}, "image_too_large"),
    ],
)
def test_what_is_no_upload_is_refused(
    module_stack: Stack, fake_worker: FakeWorker, files: dict[str, bytes], code: str
) -> None:
    with running_gateway(module_stack.settings(max_upload_bytes=4096)) as small:
        upload = small.post("/v1/uploads").json()
        assert upload["max_bytes"] == 4096
        answer = requests.post(upload["url"], files=files, timeout=30)
        assert answer.json()["code"] == code
        assert stored(fake_worker, UPLOADS) == []


def test_where_the_store_is_public_the_file_goes_to_it(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    plain = module_stack.settings()
    public = module_stack.settings(s3_public_endpoint=plain.s3_endpoint, max_upload_bytes=100_000)
    with running_gateway(public) as gateway:
        upload = gateway.post("/v1/uploads").json()
        assert upload["url"].startswith(plain.s3_endpoint)
        large = {"file": bytes(200_000)}
        assert requests.post(
            upload["url"], data=upload["fields"], files=large, timeout=30
        ).status_code in (400, 403, 413)
        answer = requests.post(
            upload["url"], data=upload["fields"], files={"file": photo_png()}, timeout=30
        )
        assert answer.ok, answer.text
        made = gateway.post("/v1/jobs", json={"image": {"upload_id": upload["id"]}})
        assert made.status_code == 202, made.text


def test_an_owner_has_a_bounded_number_of_uploads(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    made = [gateway.post("/v1/uploads")]
    # This makes all but one of the uploads that an owner may have.
    with fake_worker.db.begin() as connection:
        row = connection.execute(select(uploads)).mappings().one()
        more = [dict(row) | {"id": new_id()} for _ in range(MAX_LIVE - 2)]
        connection.execute(insert(uploads), more)
    made += [gateway.post("/v1/uploads") for _ in range(2)]
    assert [answer.status_code for answer in made] == [201, 201, 429]
    gateway.http.delete(f"{gateway.url}/v1/uploads/{made[0].json()['id']}", timeout=30)
    assert gateway.post("/v1/uploads").status_code == 201
