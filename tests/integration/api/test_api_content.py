"""A job's files come whole, in parts or by link, and an outage blocks no reader."""

import base64
import hashlib
import io
from dataclasses import replace

import pytest
import requests
from PIL import Image

from api.limits import SHIPPED
from shared.errors import OutOfMemory
from shared.jobs.job import Job, Variant
from tests.support.gateway import (
    PATIENT,
    FakeWorker,
    Gateway,
    running_gateway,
    without_storage,
)
from tests.support.processes import until
from tests.support.stack import Stack

CLIP = bytes(range(256)) * 40


@pytest.fixture
def clip(gateway: Gateway, fake_worker: FakeWorker) -> str:
    """The path of the content of a job that succeeded."""
    return finished(gateway, fake_worker)


def finished(gateway: Gateway, fake_worker: FakeWorker, video: bytes = CLIP, **fields: str) -> str:
    job_id = gateway.created(**fields)["id"]
    fake_worker.complete(fake_worker.claim(), video)
    return f"/v1/jobs/{job_id}/content"


def test_the_video_comes_whole_with_all_that_a_client_needs(gateway: Gateway, clip: str) -> None:
    answer = gateway.get(clip)
    digest = hashlib.sha256(CLIP).digest()
    assert (answer.status_code, answer.content) == (200, CLIP)
    assert answer.headers["Content-Type"] == "video/mp4"
    assert answer.headers["Content-Length"] == str(len(CLIP))
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["ETag"] == f'"{digest.hex()}"'
    assert answer.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(digest).decode()}:"
    assert answer.headers["Cache-Control"].startswith("private")
    job_id = clip.split("/")[3]
    assert answer.headers["Content-Disposition"] == f'inline; filename="{job_id}.mp4"'


RANGES = [
    ("bytes=0-0", 0, 1),
    ("bytes=0-99", 0, 100),
    ("bytes=100-", 100, len(CLIP)),
    ("bytes=-100", len(CLIP) - 100, len(CLIP)),
    ("bytes=-999999", 0, len(CLIP)),
    ("bytes=10000-99999999999999999999999", 10_000, len(CLIP)),
]


@pytest.mark.parametrize(("header", "first", "end"), RANGES)
def test_a_part_is_served_as_asked(
    gateway: Gateway, clip: str, header: str, first: int, end: int
) -> None:
    answer = gateway.get(clip, headers={"Range": header})
    assert (answer.status_code, answer.content) == (206, CLIP[first:end])
    assert answer.headers["Content-Range"] == f"bytes {first}-{end - 1}/{len(CLIP)}"
    assert answer.headers["Content-Length"] == str(end - first)


@pytest.mark.parametrize(
    "header", ["bytes=0-9,20-29", "bytes=5-2", "bytes=-", "items=0-9", "bytes=a-b", "bytes=0x1-2"]
)
def test_what_is_not_one_range_gives_the_whole_file(
    gateway: Gateway, clip: str, header: str
) -> None:
    answer = gateway.get(clip, headers={"Range": header})
    assert (answer.status_code, answer.content) == (200, CLIP)


@pytest.mark.parametrize("header", [f"bytes={len(CLIP)}-", "bytes=999999-", "bytes=-0"])
def test_a_range_behind_the_end_is_told_the_size(gateway: Gateway, clip: str, header: str) -> None:
    answer = gateway.get(clip, headers={"Range": header})
    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["Content-Range"] == f"bytes */{len(CLIP)}"


def test_a_range_of_a_file_that_has_changed_gives_the_whole_new_one(
    gateway: Gateway, clip: str
) -> None:
    etag = gateway.get(clip).headers["ETag"]
    for condition, status in ((etag, 206), ('"old"', 200), (f"W/{etag}", 200)):
        headers = {"Range": "bytes=0-9", "If-Range": condition}
        assert gateway.get(clip, headers=headers).status_code == status


def test_a_file_the_client_has_is_not_sent_again(gateway: Gateway, clip: str) -> None:
    etag = gateway.get(clip).headers["ETag"]
    for condition in (etag, f'"other", {etag}', "*"):
        answer = gateway.get(clip, headers={"If-None-Match": condition})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["ETag"] == etag


def test_head_tells_the_size_and_sends_nothing(gateway: Gateway, clip: str) -> None:
    answer = gateway.http.head(f"{gateway.url}{clip}", timeout=60)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(CLIP))
    assert answer.headers["Content-Type"] == "video/mp4"


def test_every_variant_asked_for_is_served_and_no_other(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    path = finished(gateway, fake_worker, outputs='["poster", "gif"]')
    poster = gateway.get(f"{path}?variant=poster")
    assert (poster.content, poster.headers["Content-Type"]) == (b"poster", "image/webp")
    assert poster.headers["Content-Disposition"].endswith('.poster.webp"')
    assert gateway.get(f"{path}?variant=gif").content == b"gif"
    missing = gateway.get(f"{path}?variant=spritesheet")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert "outputs=spritesheet" in missing.json()["detail"]
    unknown = gateway.get(f"{path}?variant=mp3")
    assert (unknown.status_code, unknown.json()["param"]) == (422, "variant")


def test_the_input_is_there_before_the_job_has_run(gateway: Gateway) -> None:
    job = gateway.created()
    path = f"{gateway.url}/v1/jobs/{job['id']}/content?variant=input"
    answer = gateway.http.get(path, timeout=60)
    assert answer.headers["ETag"] == f'"{job["input"]["image_sha256"]}"'
    assert Image.open(io.BytesIO(answer.content)).size == (96, 64)
    part = gateway.http.get(path, headers={"Range": "bytes=1-3"}, timeout=60)
    assert (part.status_code, part.content) == (206, b"PNG")


def test_a_job_without_a_result_says_whether_one_will_come(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    def content(job: Job) -> tuple[int, str, str]:
        answer = gateway.get(f"/v1/jobs/{job.public_id}/content")
        return answer.status_code, answer.json()["code"], answer.headers["x-should-retry"]

    gateway.created()
    job = fake_worker.claim()
    assert content(job) == (409, "job_not_ready", "false")
    fake_worker.fail(job, OutOfMemory("too large"))
    assert content(job) == (409, "job_terminal", "false")


def test_a_file_whose_time_is_over_is_gone(
    gateway: Gateway, fake_worker: FakeWorker, clip: str
) -> None:
    fake_worker.storage.delete_prefix("videos/")
    answer = gateway.get(clip)
    assert (answer.status_code, answer.json()["code"]) == (410, "gone")


def test_a_public_store_is_linked_to_for_a_quarter_of_an_hour(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    plain = module_stack.settings()
    public = module_stack.settings(s3_public_endpoint=plain.s3_endpoint)
    with running_gateway(public) as gateway:
        path = finished(gateway, fake_worker)
        answer = gateway.get(path, allow_redirects=False)
        assert answer.status_code == 307
        assert answer.headers["Location"].startswith(plain.s3_endpoint)
        assert "X-Amz-Expires=900" in answer.headers["Location"]
        assert answer.headers["Cache-Control"] == "no-store"
        followed = gateway.get(path)
        assert (followed.content, followed.headers["Content-Type"]) == (CLIP, "video/mp4")
        part = gateway.get(path, headers={"Range": "bytes=5-9"})
        assert (part.status_code, part.content) == (206, CLIP[5:10])


LARGE = bytes(24 * 1024 * 1024)


def test_a_store_that_is_down_is_a_503(
    module_stack: Stack, gateway: Gateway, fake_worker: FakeWorker, clip: str
) -> None:
    with running_gateway(without_storage(module_stack)) as cut_off:
        answer = cut_off.get(clip)
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.extended
def test_a_store_that_freezes_mid_stream_cuts_the_answer(stack: Stack) -> None:
    with (
        running_gateway(
            stack.settings(), replace(PATIENT, storage_read=SHIPPED.storage_read)
        ) as gateway,
        FakeWorker.on(stack) as hand,
    ):
        path = finished(gateway, hand, LARGE)
        answer = gateway.get(path, stream=True)
        stack.s3.freeze()
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            len(answer.content)
        assert gateway.get("/livez").status_code == 200


SMALL = CLIP
# This is exactly four of the pieces in which the store is read.
MIDDLE = bytes(range(256)) * 4096


OTHERS = {
    "small: last byte": (SMALL, SMALL[:-1] + b"!"),
    "small: cut": (SMALL, SMALL[:100]),
    "first byte": (MIDDLE, b"!" + MIDDLE[1:]),
    "last byte": (MIDDLE, MIDDLE[:-1] + b"!"),
    "cut": (MIDDLE, MIDDLE[:-1]),
    "another file": (MIDDLE, b"<html>" * 400_000),
}
# These have no case with a range: a range of the longer file is the job's own file, and a range of
# the empty file is nothing.
WHOLE_ONLY = {
    "small: empty": (SMALL, b""),
    "small: longer": (SMALL, SMALL + b"!"),
    "longer": (MIDDLE, MIDDLE + b"!"),
}
ALTERED = [
    *(pytest.param(*pair, None, id=name) for name, pair in (OTHERS | WHOLE_ONLY).items()),
    *(pytest.param(*pair, "bytes=0-", id=f"{name}, as a range") for name, pair in OTHERS.items()),
]


@pytest.mark.parametrize(("clip", "stored", "header"), ALTERED)
def test_a_file_that_is_not_the_one_its_job_made_ends_short_of_its_length(
    gateway: Gateway,
    fake_worker: FakeWorker,
    caplog: pytest.LogCaptureFixture,
    clip: bytes,
    stored: bytes,
    header: str | None,
) -> None:
    gateway.created()
    job = fake_worker.complete(fake_worker.claim(), clip)
    assert job.result is not None
    key = job.result.artifacts[Variant.VIDEO].key
    fake_worker.storage.put(key, stored, content_type="video/mp4")

    url = f"{gateway.url}/v1/jobs/{job.public_id}/content"
    headers = {} if header is None else {"Range": header}
    answer = requests.get(url, headers=headers, stream=True, timeout=60)
    assert answer.headers["Content-Length"] == str(len(clip))
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        len(answer.content)
    until(lambda: "answer_cut" in caplog.text, "the cut answer is told")
    assert f"stored_file_differs' key='{key}'" in caplog.text


def test_a_file_of_many_pieces_that_is_the_jobs_own_comes_whole(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    path = finished(gateway, fake_worker, MIDDLE)
    assert gateway.get(path).content == MIDDLE
    assert gateway.get(path, headers={"Range": "bytes=0-"}).content == MIDDLE


def test_a_slow_reader_holds_no_connection_to_the_database(
    module_stack: Stack, fake_worker: FakeWorker, gateway: Gateway
) -> None:
    path = finished(gateway, fake_worker, LARGE)
    readers = [requests.get(f"{gateway.url}{path}", stream=True, timeout=60) for _ in range(12)]
    # The pool has ten connections. If the readers held them, none would be left for this request.
    assert gateway.get("/v1/queue").status_code == 200
    for reader in readers:
        assert next(reader.iter_content(10)) == bytes(10)
        reader.close()
