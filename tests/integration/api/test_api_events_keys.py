"""Listening with keys: to one's own jobs, and for as long as the key is good."""

import pytest

from tests.integration.api.test_api_events import listening
from tests.support.gateway import Gateway
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
    tenant_a: Gateway, key_admin: KeyAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.responses.following.KEEP_ALIVE_SECONDS", 0.2)
    key, holder = key_admin.holder(tenant_a, "leaver")
    headers = {"Authorization": f"Bearer {holder.text}"}
    path = f"/v1/jobs/{holder.created()}/events"
    with (
        listening(tenant_a, "/v1/events", **headers) as all_jobs,
        listening(tenant_a, path, **headers) as one_job,
    ):
        key_admin.revoke(tenant_a, key)
        assert len(all_jobs.rest()) == len(one_job.rest()) == 1
