"""Bodies of OpenAI's and Replicate's clients, and of tools that write such bodies by hand."""

import json
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import pytest

from api.compat.create import ForeignRequest
from api.compat.openai.create import read_video
from api.compat.replicate.create import PredictionRequest, read_prediction
from api.submit.body import Received
from api.submit.image_source import ImageUpload, ImageUrl
from shared.errors import InvalidRequest, UnsupportedBody
from tests.support.gateway import data_uri

PHOTO: Final = bytes(range(251, 256)) * 9
URI: Final = data_uri(PHOTO)
BLANKS: Final[tuple[Any, ...]] = ("", " ", "null", "undefined", [], {}, None)
OPTIONAL: Final = (
    *("seed", "num_frames", "fps", "guidance_scale", "size", "seconds", "resolution", "fit"),
    *("focus", "outputs", "metadata", "webhook", "last_frame", "keyframes", "priority"),
)


def video(**values: Any) -> ForeignRequest:
    return read_video(Received((), {}, json.dumps(values).encode()))


def form(files: Mapping[str, bytes], **values: str) -> ForeignRequest:
    return read_video(Received([*values.items()], files, None))


def prediction(
    *, outer: Mapping[str, Any] | None = None, model: str | None = "camera", **values: Any
) -> PredictionRequest:
    body = {"input": {"image": URI, **values}, **(outer or {})}
    received = Received((), {}, json.dumps(body).encode())
    return read_prediction(received, model=model)


@pytest.mark.parametrize("blank", BLANKS, ids=repr)
def test_a_blank_value_counts_as_not_sent(blank: object) -> None:
    blanks: dict[str, Any] = dict.fromkeys(OPTIONAL, blank)
    plain = video(input_reference=URI, prompt="x")
    assert video(input_reference=URI, prompt="x", **blanks) == plain
    assert video(input_reference=URI, prompt="x", extra_params=blanks, model=blank) == plain
    outer = dict.fromkeys(("webhook", "webhook_events_filter", "stream"), blank)
    assert prediction(outer=outer, **blanks) == prediction()


@pytest.mark.parametrize("name", ["input_reference", "image_url", "image"])
def test_an_image_may_be_base64_alone(name: str) -> None:
    alone = URI.partition(",")[2]
    for sent in (alone, {"image_url": alone}, [alone]):
        assert video(**{name: sent}).images.image == PHOTO
    assert prediction(image=alone).images.image == PHOTO


@pytest.mark.parametrize("blank", BLANKS, ids=repr)
def test_a_blank_image_is_missing(blank: object) -> None:
    for read in (lambda: video(input_reference=blank), lambda: prediction(image=blank)):
        with pytest.raises(InvalidRequest, match="is missing; it takes one image"):
            read()


def test_a_second_image_is_named_in_a_warning() -> None:
    assert video(input_reference=URI, image="x").warnings == (
        "image was ignored: the image is input_reference",
    )
    both = form({"image": PHOTO, "input_reference": PHOTO})
    assert both.warnings == ("image was ignored: the image is input_reference",)
    assert prediction(start_image=URI).warnings == ("start_image was ignored: the image is image",)


def test_a_last_frame_in_a_form_is_not_lost() -> None:
    sent = form({"input_reference": PHOTO, "last_frame": b"another"})
    assert sent.images.more == {"last_frame": b"another"}


def test_a_file_part_may_be_named_as_a_list() -> None:
    sent = form({"input_reference[]": PHOTO}, prompt="x")
    assert (sent.images.image, sent.warnings) == (PHOTO, ())


def test_an_image_is_refused_by_the_name_that_was_sent() -> None:
    assert video(reference_url="https://a.example/a.png").params["image.url"] == "reference_url"
    with pytest.raises(InvalidRequest) as refused:
        video(image_reference={"b64_json": "AAAA"})
    assert refused.value.param == "image_reference"


def test_what_a_prediction_has_beside_its_input_is_named_if_it_means_nothing() -> None:
    sent = prediction(outer={"webhok": "https://a.example", "stream": True}, model="camera")
    assert sent.warnings == ("webhok, stream was ignored: it means nothing here",)
    inner = prediction(outer={"input": {"image": URI, "model": "sora"}})
    assert inner.warnings == ("model was ignored: it means nothing here",)


@pytest.mark.parametrize("name", ["webhook", "webhook_completed"])
def test_a_wrong_webhook_of_a_prediction_is_named_as_it_was_sent(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        prediction(outer={name: "example.org"})
    assert refused.value.param == name
    assert prediction(outer={name: "https://a.example/"}).params["webhook.url"] == name


def test_a_prediction_in_a_form_is_told_how_to_bring_its_image() -> None:
    received = Received([("version", "camera")], {"image": PHOTO}, None)
    with pytest.raises(UnsupportedBody, match="send the prediction as application/json, with the"):
        read_prediction(received)


def test_an_image_by_url_stays_one() -> None:
    there = "https://a.example/a.png"
    assert prediction(image=f" {there}").images.image == ImageUrl(there)


FILE: Final = f"upload_{9:032x}"


@pytest.mark.parametrize("host", ["http://127.0.0.1:7860", "http://localhost:7860", "https://a"])
@pytest.mark.parametrize("end", ["", "?x=1"])
def test_a_file_that_is_stored_here_is_an_upload_by_every_name_of_this_host(
    host: str, end: str
) -> None:
    file, upload = f"{host}/compat/replicate/v1/files/{FILE}{end}", ImageUpload(UUID(int=9))
    keyframes = [{"frame": 8, "image": file}]
    images = prediction(image=file, last_frame=file, keyframes=keyframes).images
    assert (images.image, images.more) == (upload, {"last_frame": upload})
    assert images.keyframes == ((8, upload),)


def test_an_upload_may_be_named_by_its_id_alone() -> None:
    assert prediction(image=FILE).images.image == ImageUpload(UUID(int=9))
    assert video(input_reference=FILE).images.image == ImageUpload(UUID(int=9))
