"""With a key, a listener hears only that key's jobs, and only while the key is valid."""

from dataclasses import replace

from tests.integration.api.test_api_events import SHORT_SILENCE, listening
from tests.support.gateway import PATIENT, Gateway, running_gateway
from tests.support.stack import Stack
from tests.support.tenants import KeyAdmin


def test_nobody_hears_of_anothers_jobs(tenant_a: Gateway, key_admin: KeyAdmin) -> None:
    _, mine = key_admin.holder(tenant_a, "mine")
    _, theirs = key_admin.holder(tenant_a, "theirs")
    job_id = mine.created()
    assert theirs.get(f"/v1/jobs/{job_id}/events").status_code == 404
    with listening(tenant_a, "/v1/events", Authorization=f"Bearer {theirs.text}") as stream:
        mine.created()
        own = theirs.created()
        assert stream.next().data["id"] == own


def test_a_revoked_key_hears_no_more(
    module_stack: Stack, tenant_a: Gateway, key_admin: KeyAdmin
) -> None:
    key, holder = key_admin.holder(tenant_a, "leaver")
    headers = {"Authorization": f"Bearer {holder.text}"}
    path = f"/v1/jobs/{holder.created()}/events"
    often = replace(PATIENT, silent_seconds=SHORT_SILENCE)
    with (
        running_gateway(module_stack.settings(), often) as gateway,
        listening(gateway, "/v1/events", **headers) as all_jobs,
        listening(gateway, path, **headers) as one_job,
    ):
        key_admin.revoke(gateway, key)
        assert len(all_jobs.rest()) == len(one_job.rest()) == 1
