"""Images from real people and tools come out as they should look."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import requests

from tests.support.corpus import LEVELS, Right, cases, distance, right_of
from tests.support.gateway import Gateway, data_uri
from tests.support.makers import MAKERS, Made

TYPES: Final = {
    ".multipart": "multipart/form-data; boundary=----WebKitFormBoundaryX7",
    ".urlencoded": "application/x-www-form-urlencoded",
    ".json": "application/json",
}


def check(gateway: Gateway, answer: requests.Response, right: Right) -> None:
    """Compare an answer with the right one."""
    body = answer.json()
    if right.refused is not None:
        assert (400 <= answer.status_code < 500, body["code"]) == (True, right.refused), body
        assert right.says in body["detail"]
        return
    assert answer.status_code == 202, body
    shown = gateway.get(f"/v1/jobs/{body['id']}/content?variant=input")
    assert distance(shown.content, right.look()) <= LEVELS
    if right.warns is not None:
        assert any(right.warns in warning for warning in body["warnings"])
    assert {name: body["input"][name] for name in right.fields} == right.fields


def send_form(gateway: Gateway, name: str, body: bytes) -> requests.Response:
    return gateway.post("/v1/jobs", files={"image": (name, body)}, data={"prompt": "still"})


def send_json(gateway: Gateway, name: str, body: bytes) -> requests.Response:
    values = {"prompt": "still", "image": {"data": data_uri(body, "image/" + name[-4:])}}
    return gateway.post("/v1/jobs", json=values)


@pytest.mark.parametrize("case", cases("images"), ids=lambda case: str(case.name))
def test_an_image_of_the_corpus_shows_what_is_right(gateway: Gateway, case: Path) -> None:
    for send in (send_form, send_json):
        check(gateway, send(gateway, case.name, case.read_bytes()), right_of(case))


@pytest.mark.parametrize("case", cases("bodies"), ids=lambda case: str(case.name))
def test_a_body_of_the_corpus_gives_what_is_right(gateway: Gateway, case: Path) -> None:
    headers = {"Content-Type": TYPES[case.suffix]}
    answer = gateway.post("/v1/jobs", data=case.read_bytes(), headers=headers)
    check(gateway, answer, right_of(case))


# In `make test`, the images of the corpus are sent in both ways.
@pytest.mark.parametrize("send", [send_form, pytest.param(send_json, marks=pytest.mark.extended)])
@pytest.mark.parametrize("made", MAKERS, ids=lambda made: str(made.name))
def test_a_photo_as_its_maker_writes_it_shows_what_was_photographed(
    gateway: Gateway, made: Made, send: Callable[[Gateway, str, bytes], requests.Response]
) -> None:
    check(gateway, send(gateway, made.name, made.body()), made.right)
