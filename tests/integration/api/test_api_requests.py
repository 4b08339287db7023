"""Requests as real tools write them are accepted, or the refusal says what would be right."""

import gzip
import io
import json
from typing import Any

import pytest
import requests
from PIL import Image

from tests.support.gateway import Gateway, data_uri, encoded, photo_png

URI = data_uri(photo_png())


def part(disposition: str, content: bytes, *headers: str) -> bytes:
    lines = [f"Content-Disposition: form-data; {disposition}", *headers]
    return b"--x\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"\r\n"


def send_parts(gateway: Gateway, *parts: bytes, end: bytes = b"--x--\r\n") -> requests.Response:
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    return gateway.post("/v1/jobs", data=b"".join(parts) + end, headers=kind)


IMAGE_PARTS: dict[str, tuple[bytes, ...]] = {
    "no file name": (part('name="image"', photo_png()),),
    "no quotes": (part("name=image", photo_png()),),
    "a kind and no file name": (part('name="image"', photo_png(), "Content-Type: image/png"),),
    "a file name of RFC 5987 alone": (
        part("name=\"image\"; filename*=UTF-8''%E7%8C%AB.png", photo_png()),
    ),
    "an empty file name": (part('name="image"; filename=""', photo_png()),),
    "a second empty input": (
        part('name="image"; filename="a.png"', photo_png()),
        part('name="mask"; filename=""', b"", "Content-Type: application/octet-stream"),
        part('name="image"; filename=""', b""),
    ),
    "a data URI": (part('name="image"', URI.encode()),),
    "base64": (part('name="image"', URI.partition(",")[2].encode()),),
}


@pytest.mark.parametrize("kind", IMAGE_PARTS)
def test_an_image_is_taken_in_any_part_that_tools_write(gateway: Gateway, kind: str) -> None:
    prompt = part('name="prompt"', b"pan left")
    answer = send_parts(gateway, *IMAGE_PARTS[kind], prompt)
    assert (answer.status_code, answer.json().get("input", {}).get("prompt")) == (202, "pan left")
    assert answer.json()["input"]["image_width"] == 96


@pytest.mark.parametrize("end", [b"", b"--x", b"--x-"])
def test_a_form_that_was_cut_off_is_refused(gateway: Gateway, end: bytes) -> None:
    parts = part('name="image"; filename="a"', photo_png()), part('name="num_frames"', b"8")
    answer = send_parts(gateway, *parts, end=end)
    assert answer.status_code == 422
    assert "cut off" in answer.json()["detail"]


def test_two_images_or_another_file_are_told(gateway: Gateway) -> None:
    image = part('name="image"; filename="a"', photo_png())
    assert "sent twice" in send_parts(gateway, image, image).json()["detail"]
    other = part('name="mask"; filename="a"', photo_png())
    assert "'mask'; name it image" in send_parts(gateway, image, other).json()["detail"]


def test_a_form_without_a_boundary_is_told_who_writes_one(gateway: Gateway) -> None:
    kind = {"Content-Type": "multipart/form-data"}
    answer = gateway.post("/v1/jobs", data=b"x", headers=kind)
    assert answer.status_code == 422
    assert "let your HTTP client write that header" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("boundary", "body"),
    [("y", b"--x\r\n"), ('""', b"--x\r\n"), ("x", b"--x\n\n")],
    ids=["another boundary", "an empty boundary", "bare line ends"],
)
def test_a_form_that_cannot_be_taken_apart_is_told_what_may_be_wrong(
    gateway: Gateway, boundary: str, body: bytes
) -> None:
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    answer = gateway.post("/v1/jobs", data=body, headers=kind)
    assert answer.status_code == 422
    assert "not the boundary that its Content-Type names" in answer.json()["detail"]


def test_a_part_without_a_name_is_told_how_one_begins(gateway: Gateway) -> None:
    answer = send_parts(gateway, b"--x\r\nContent-Type: text/plain\r\n\r\nx\r\n")
    assert 'Content-Disposition: form-data; name="image"' in answer.json()["detail"]


def test_an_image_in_base64_by_its_transfer_encoding_is_called_so(gateway: Gateway) -> None:
    packed = part('name="image"; filename="a.png"', URI.partition(",")[2].encode())
    assert "this looks like base64 in a file" in send_parts(gateway, packed).json()["detail"]


def test_a_side_out_of_range_is_not_told_another_one_out_of_range(gateway: Gateway) -> None:
    answer = gateway.post("/v1/jobs", json={"image": URI, "prompt": "x", "width": 99999})
    assert "out of range for moves; it takes 64 to" in answer.json()["detail"]


def test_a_url_of_another_scheme_is_told_in_plain_letters(gateway: Gateway) -> None:
    asked = {"image": URI, "prompt": "x", "webhook": {"url": "ftp://example.org"}}
    answer = gateway.post("/v1/jobs", json=asked)
    assert answer.json()["detail"] == "webhook.url: URL scheme should be 'http' or 'https'"


@pytest.mark.parametrize("path", ["/v1/jobs", "/generate"])
@pytest.mark.parametrize("seed", [-1, "-1"])
def test_a_seed_of_minus_one_is_drawn(gateway: Gateway, path: str, seed: Any) -> None:
    values = {"image": URI, "prompt": "still", "seed": seed}
    prefer = {"Prefer": "respond-async"}
    first, second = (gateway.post(path, json=values, headers=prefer) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202), first.text
    assert first.json()["seed"] != second.json()["seed"]
    assert first.json()["seed"] >= 0


def test_a_seed_of_64_bits_is_told_what_is_taken(gateway: Gateway) -> None:
    answer = gateway.create(prompt="x", seed=2**63 + 5)
    assert answer.status_code == 422
    answer = gateway.create(prompt="x", seed=2**40)
    assert "4294967295 at most" in answer.json()["detail"]


def test_json_by_curls_default_content_type_is_told(gateway: Gateway) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    text = json.dumps({"prompt": "x", "image": URI})
    answer = gateway.post("/v1/jobs", data=text, headers=kind)
    assert answer.status_code == 415
    assert "send Content-Type: application/json" in answer.json()["detail"]


def test_a_compressed_body_is_told(gateway: Gateway) -> None:
    kind = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    text = gzip.compress(json.dumps({"prompt": "x", "image": URI}).encode())
    answer = gateway.post("/v1/jobs", data=text, headers=kind)
    assert answer.status_code == 415
    assert "Content-Encoding: gzip" in answer.json()["detail"].replace("'", "")


@pytest.mark.parametrize("query", ["_=1700000000000", "t=123", "cb=x1", "v=2", "1700000000000"])
def test_what_only_defeats_caches_is_ignored_where_something_is_read(
    gateway: Gateway, query: str
) -> None:
    job = gateway.created(prompt="x")["id"]
    for path in (f"/v1/jobs/{job}", "/v1/jobs", "/v1/models"):
        assert gateway.get(f"{path}?{query}").status_code == 200
    shown = gateway.get(f"/v1/jobs/{job}/content?variant=input&{query}")
    assert shown.status_code == 200
    assert gateway.get("/v1/jobs?limt=5").status_code == 422


@pytest.mark.parametrize("path", ["/v1/jobs", "/generate"])
@pytest.mark.parametrize("name", ["prompt", "metadata[a]", "seed"])
def test_fields_in_the_query_are_told_where_they_belong(
    gateway: Gateway, path: str, name: str
) -> None:
    answer = gateway.post(path, params={name: "x"}, files={"image": ("a.png", photo_png())})
    assert answer.status_code == 422
    assert "send it in the body" in answer.json()["detail"]


# The test reads 45 MB of JSON twice, which takes four seconds of one core.
@pytest.mark.extended
def test_an_image_as_data_may_be_as_large_as_a_file(gateway: Gateway) -> None:
    most = gateway.ports.settings.max_upload_bytes
    padded = photo_png() + bytes(most - len(photo_png()))
    answer = gateway.post("/v1/jobs", json={"prompt": "x", "image": data_uri(padded)})
    assert answer.status_code == 202, answer.text
    answer = gateway.post("/v1/jobs", json={"prompt": "x", "image": data_uri(padded + b"x")})
    assert (answer.status_code, answer.json()["code"]) == (413, "image_too_large")


def test_an_idempotency_key_may_have_blanks(gateway: Gateway) -> None:
    headers = {"Idempotency-Key": "order 17 of May"}
    first, second = (gateway.create(prompt="x", headers=headers) for _ in range(2))
    assert first.json()["id"] == second.json()["id"]


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_a_panorama_is_taken_at_the_defaults_and_told_what_is_shown(
    gateway: Gateway, fit: str
) -> None:
    panorama = Image.open(io.BytesIO(photo_png())).resize((2400, 250))
    job = gateway.created(prompt="x", image=encoded(panorama, "JPEG"), fit=fit)
    assert (job["input"]["width"], job["input"]["height"]) == (4096, 512)
    assert any("longer than a clip" in each for each in job["warnings"]) == (fit == "crop")
