"""Previews with keys; a file of its own, because the first key closes a module's gateway."""

from uuid import UUID

from shared.jobs.job import parse_id
from shared.jobs.preview_store import PreviewStore
from tests.integration.api.test_api_previews import IMAGES, anonymous, show, store
from tests.support.gateway import FakeWorker, Gateway
from tests.support.tenants import KeyAdmin, refusal

__all__ = ["store"]


def test_a_foreign_key_sees_no_preview_and_a_link_opens_no_other_file(
    tenant_a: Gateway, key_admin: KeyAdmin, fake_worker: FakeWorker, store: PreviewStore
) -> None:
    _, mine = key_admin.holder(tenant_a, "mine")
    _, theirs = key_admin.holder(tenant_a, "theirs")
    job_id = mine.created()
    job = fake_worker.claim()
    show(fake_worker, store, job, 2)
    path = f"/v1/jobs/{job_id}/content?variant=preview"

    assert mine.get(path).content == IMAGES[2]
    missing = theirs.get(f"/v1/jobs/job_{UUID(int=7).hex}/content?variant=preview")
    assert refusal(theirs.get(path)) == refusal(missing) == (404, "not_found")
    link = mine.get(f"/v1/jobs/{job_id}").json()["preview_url"]
    assert anonymous(link).content == IMAGES[2]
    forged = link.replace("variant=preview", "variant=input")
    assert anonymous(forged).status_code in {401, 403}
    assert parse_id(job_id) == job.id
