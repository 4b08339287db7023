"""Nobody begins a job with another key's clip or upload, or retries another key's job."""

from tests.support.gateway import Gateway, photo_png
from tests.support.tenants import KeyAdmin


def test_a_foreign_clip_and_a_foreign_upload_are_as_missing(
    tenant_a: Gateway, key_admin: KeyAdmin
) -> None:
    _, ann = key_admin.holder(tenant_a, "ann")
    _, bob = key_admin.holder(tenant_a, "bob")
    job, upload = ann.created(), ann.send("POST", "/v1/uploads").json()
    for image, missing in (
        ({"job_id": job, "frame": 0}, {"job_id": f"job_{7:032x}", "frame": 0}),
        ({"upload_id": upload["id"]}, {"upload_id": f"upload_{7:032x}"}),
    ):
        theirs, none = (bob.send("POST", "/v1/jobs", json={"image": i}) for i in (image, missing))
        assert theirs.status_code == none.status_code == 422
        assert theirs.json()["detail"] == none.json()["detail"]
    path = f"/v1/uploads/{upload['id']}"
    for method in ("GET", "DELETE"):
        assert bob.send(method, path).status_code == 404
    content = bob.send("POST", f"{path}/content", files={"file": photo_png()})
    assert content.status_code == 404
    assert bob.send("POST", f"/v1/jobs/{job}/retry").status_code == 404
    assert ann.send("GET", path).status_code == 200
