"""A link opens one file for anybody who has it, until something ends the link."""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID

import pytest
import requests
from sqlalchemy import text

from shared.jobs.job import Variant
from tests.support.drawn_links import links_of
from tests.support.factory import JobFixture
from tests.support.gateway import FakeWorker, Gateway, data_uri, photo_png, running_gateway
from tests.support.outbox import LOOPBACK, Sender
from tests.support.receiver import Receiver
from tests.support.stack import Stack
from tests.support.tenants import Holder, KeyAdmin, refusal

CLIP = b"the clip"
AGAIN = text(
    "UPDATE deliveries SET status = 'pending', delivered_at = NULL, next_at = clock_timestamp()"
)
PATIENCE = 60
SITE = {"Origin": "https://cms.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
TAG = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "video"}


def follow(url: str, method: str = "GET", **headers: str) -> requests.Response:
    """Send a request without a key."""
    return requests.request(method, url, headers=headers, timeout=PATIENCE, allow_redirects=False)


def finished(holder: Holder, hand: FakeWorker) -> str:
    """Return the id of a job whose clip exists."""
    job = holder.created()
    hand.complete(hand.claim(), CLIP)
    return job


def link(holder: Holder, job: str) -> str:
    return str(holder.get(f"/v1/jobs/{job}").json()["output"]["video"]["url"])


@pytest.fixture
def tenant(tenant_a: Gateway, key_admin: KeyAdmin) -> Holder:
    return key_admin.holder(tenant_a, "tenant")[1]


@pytest.fixture
def clip(tenant: Holder, fake_worker: FakeWorker) -> str:
    """A link to a finished clip."""
    return link(tenant, finished(tenant, fake_worker))


@pytest.mark.parametrize("headers", [{}, SITE, TAG, {"Host": "cms.example"}, {"Via": "1.1 proxy"}])
def test_a_link_alone_plays_a_clip_for_anybody_anywhere(
    clip: str, headers: dict[str, str]
) -> None:
    answer = follow(clip, **headers)
    assert (answer.status_code, answer.content) == (200, CLIP)
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    part = follow(clip, Range="bytes=4-7", **headers)
    assert (part.status_code, part.content) == (206, CLIP[4:8])
    assert follow(clip, "HEAD", **headers).status_code == 200
    etag = f'"{hashlib.sha256(CLIP).hexdigest()}"'
    assert follow(clip, **headers, **{"If-None-Match": etag}).status_code == 304


def test_a_link_opens_nothing_but_its_file(
    clip: str, tenant: Holder, fake_worker: FakeWorker
) -> None:
    other = finished(tenant, fake_worker)
    base, _, query = clip.partition("?")
    for url, status in (
        (base, 401),
        (f"{base}?{query.replace('video', 'input', 1)}", 403),
        (clip.replace(base.split("/")[-2], other), 403),
        (base.removesuffix("/content") + f"?{query}", 401),
        (f"{tenant.gateway.url}/v1/jobs?{query}", 401),
    ):
        assert follow(url).status_code == status, url
    for method in ("POST", "DELETE", "PUT"):
        assert follow(clip, method).status_code == 401
    assert tenant.get(f"/v1/jobs/{other}").status_code == 200


def test_an_expired_link_says_so_and_a_forged_one_does_not(clip: str, tenant: Holder) -> None:
    settings = tenant.gateway.ports.settings
    (row,) = tenant.gateway.ports.queries.many([_id(clip)]).values()
    past = links_of(settings).path(row, Variant.VIDEO, now=datetime.now(UTC) - timedelta(hours=26))
    expired = follow(f"{tenant.gateway.url}{past}")
    assert refusal(expired) == (403, "link_expired")
    assert "expired" in expired.json()["detail"]
    forged = follow(f"{clip[:-4]}AAAA")
    assert refusal(forged) == (403, "link_refused")
    assert "expired" not in forged.text
    # An expired link does not stop a caller who may read the file without a link.
    assert tenant.get(past).content == CLIP


@pytest.mark.parametrize("how", ["rotated", "rotated with an overlap", "revoked"])
def test_a_key_takes_its_links_with_it_and_nobody_elses(
    how: str, tenant_a: Gateway, key_admin: KeyAdmin, fake_worker: FakeWorker
) -> None:
    key, holder = key_admin.holder(tenant_a, "leaks")
    _, other = key_admin.holder(tenant_a, "other")
    job = finished(holder, fake_worker)
    before, others = link(holder, job), link(other, finished(other, fake_worker))
    assert follow(before).content == follow(others).content == CLIP
    if how == "revoked":
        key_admin.revoke(tenant_a, key)
    else:
        overlap = timedelta(hours=1 if "overlap" in how else 0)
        holder = key_admin.rotate(tenant_a, key, overlap=overlap)
    assert refusal(follow(before)) == (403, "link_expired")
    assert follow(others).content == CLIP
    if how != "revoked":
        listed = holder.get("/v1/jobs").json()["data"][0]["output"]["video"]["url"]
        assert follow(listed).content == follow(link(holder, job)).content == CLIP


def test_the_first_key_ends_the_links_that_were_given_to_everybody(
    tenant_a: Gateway, key_admin: KeyAdmin, fake_worker: FakeWorker
) -> None:
    nobody = Holder(tenant_a, None)
    job = finished(nobody, fake_worker)
    before = link(nobody, job)
    assert follow(before, **TAG).content == CLIP
    key, admin = key_admin.holder(tenant_a, "admin", is_admin=True)
    assert refusal(follow(before)) == (403, "link_expired")
    # The house's jobs are now the admins'. If one admin's key ends, the house's links end too.
    houses = link(admin, job)
    key_admin.holder(tenant_a, "second")
    assert follow(houses).content == CLIP
    key_admin.revoke(tenant_a, key)
    assert refusal(follow(houses)) == (403, "link_expired")


def test_every_answer_that_shows_a_finished_job_has_a_link_that_works(
    tenant_a: Gateway, key_admin: KeyAdmin, fake_worker: FakeWorker
) -> None:
    key, holder = key_admin.holder(tenant_a, "tenant")
    # After a rotation the number in the links is not zero.
    holder = key_admin.rotate(tenant_a, key)
    once = {"Idempotency-Key": "once"}
    assert holder.create(headers=once).status_code == 202
    fake_worker.complete(fake_worker.claim(), CLIP)
    again = holder.create(headers=once)
    assert again.headers["Idempotency-Replayed"] == "true"
    job = again.json()["id"]
    waited = holder.create(headers={**once, "Prefer": "wait=5"})
    shown = [
        again.json(),
        waited.json(),
        holder.get(f"/v1/jobs/{job}").json(),
        holder.get(f"/v1/jobs/{job}?wait=1").json(),
        *holder.get("/v1/jobs").json()["data"],
    ]
    links = {each["output"]["video"]["url"] for each in shown}
    assert len(shown) == 5
    assert [follow(url).content for url in links] == [CLIP] * len(links)
    assert len(links) <= 2  # There are two if an hour ended meanwhile.


def test_a_deleted_jobs_link_is_a_missing_one(clip: str, tenant: Holder) -> None:
    assert tenant.send("DELETE", urlsplit(clip).path.removesuffix("/content")).status_code == 204
    assert refusal(follow(clip)) == (404, "not_found")


def test_guessed_links_are_cut_short_and_good_ones_are_not(module_stack: Stack, clip: str) -> None:
    with running_gateway(module_stack.settings(rate_limit="100/second")) as limited:
        url = clip.replace(urlsplit(clip).netloc, urlsplit(limited.url).netloc)
        codes = {follow(f"{url[:-4]}AAAA").status_code for _ in range(70)}
        assert codes == {403, 429}
        assert follow(url).content == CLIP


def test_a_link_leads_to_the_public_store_unless_it_is_to_stay_here(
    module_stack: Stack, clip: str
) -> None:
    store = module_stack.settings().s3_endpoint
    with running_gateway(module_stack.settings(s3_public_endpoint=store)) as public:
        url = clip.replace(urlsplit(clip).netloc, urlsplit(public.url).netloc)
        away = follow(url)
        assert away.status_code == 307
        assert away.headers["Location"].startswith(store)
        assert away.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        here = follow(f"{url}&via=gateway")
        assert (here.status_code, here.content) == (200, CLIP)
        wrong = follow(f"{url}&via=elsewhere")
        assert (wrong.status_code, wrong.json()["param"]) == (422, "via")


@pytest.fixture
def told(module_stack: Stack, tenant_b: Gateway, key_admin: KeyAdmin) -> Iterator[Sender]:
    desk = JobFixture(module_stack.settings())
    sender = Sender(
        desk, delays=[timedelta(0)] * 3, deadline=timedelta(seconds=30), allow=LOOPBACK
    )
    yield sender
    sender.deliverer.close()
    desk.close()


def test_each_try_of_a_webhook_has_a_link_that_works_when_it_comes(
    module_stack: Stack, key_admin: KeyAdmin, fake_worker: FakeWorker, told: Sender
) -> None:
    settings = module_stack.settings(outbound_allow=str(LOOPBACK[0]))
    with running_gateway(settings) as gateway, Receiver() as receiver:
        key, holder = key_admin.holder(gateway, "tenant")
        data = {"webhook[url]": receiver.url("/hook")}
        assert holder.create(data=data).status_code == 202
        fake_worker.complete(fake_worker.claim(), CLIP)
        told.tried(1)
        first = _clip_of(receiver, 1)
        assert follow(f"{gateway.url}{first}").content == CLIP
        key_admin.rotate(gateway, key)
        with fake_worker.db.begin() as connection:
            connection.execute(AGAIN)
        told.tried(2)
        again = _clip_of(receiver, 2)
        assert refusal(follow(f"{gateway.url}{first}")) == (403, "link_expired")
        assert follow(f"{gateway.url}{again}").content == CLIP


def _clip_of(receiver: Receiver, count: int) -> str:
    url = receiver.wait_for(count, "/hook")[-1].json()["data"]["output"]["video"]["url"]
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def _id(url: str) -> UUID:
    return UUID(hex=urlsplit(url).path.split("/")[3].removeprefix("job_"))


def zip_link(holder: Holder, hand: FakeWorker) -> str:
    """Return the link to the zip of a batch that has ended."""
    photo = {"image": {"data": data_uri(photo_png(size=(48, 32)))}}
    made = holder.send("POST", "/v1/batches", json={"items": [photo] * 2})
    assert made.status_code == 202, made.text
    for _ in range(2):
        hand.complete(hand.claim(), CLIP)
    return str(holder.get(f"/v1/batches/{made.json()['id']}").json()["content_url"])


def test_a_batch_s_link_alone_opens_its_zip_and_nothing_else(
    tenant: Holder, clip: str, fake_worker: FakeWorker
) -> None:
    url = zip_link(tenant, fake_worker)
    answer = follow(url)
    assert answer.status_code == 200
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert len(archive.namelist()) == 3
    other = zip_link(tenant, fake_worker)
    base, _, query = url.partition("?")
    for changed, status in (
        (base, 401),
        (f"{base}?{urlsplit(clip).query}", 403),
        (f"{other.partition('?')[0]}?{query}", 403),
        (f"{clip.partition('?')[0]}?{query}", 403),
        (f"{url[:-4]}AAAA", 403),
        (base.removesuffix("/content") + f"?{query}", 401),
        (f"{tenant.gateway.url}/v1/jobs?{query}", 401),
    ):
        assert follow(changed).status_code == status, changed
    for method in ("POST", "DELETE"):
        assert follow(url, method).status_code == 401
    listed = {each["content_url"] for each in tenant.get("/v1/batches").json()["data"]}
    assert listed == {url, other}


def test_a_batch_s_link_has_an_end_and_goes_with_its_key(
    tenant_a: Gateway, key_admin: KeyAdmin, fake_worker: FakeWorker
) -> None:
    key, holder = key_admin.holder(tenant_a, "batches")
    url = zip_link(holder, fake_worker)
    batch_id = UUID(hex=urlsplit(url).path.split("/")[-2].removeprefix("batch_"))
    with fake_worker.db.begin() as connection:
        owner_id = connection.execute(text("SELECT owner_id FROM batches")).scalar_one()
    batch = tenant_a.ports.batches.get(batch_id, owner_id=owner_id)
    then = datetime.now(UTC) - timedelta(hours=26)
    past = links_of(tenant_a.ports.settings).zip_path(batch, now=then)
    assert refusal(follow(f"{tenant_a.url}{past}")) == (403, "link_expired")
    assert holder.get(past).status_code == 200
    assert follow(url).status_code == 200
    holder = key_admin.rotate(tenant_a, key)
    assert refusal(follow(url)) == (403, "link_expired")
    anew = holder.get(f"/v1/batches/batch_{batch_id.hex}").json()["content_url"]
    assert follow(anew).status_code == 200
