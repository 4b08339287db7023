"""A create request means the same in every spelling, and a refusal says what is wrong."""

import json
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest

from api.submit.body import CreateRequest, Received, read_create
from api.submit.image_source import ImageFrame, ImageUpload, ImageUrl
from api.submit.images import Images
from shared.engines.given_images import GivenImages
from shared.errors import AppError, InvalidRequest
from tests.support.gateway import data_uri

IMAGE = b"\x89PNG..."
JOB = f"job_{7:032x}"
UPLOAD = f"upload_{9:032x}"


def form(*pairs: tuple[str, str], file: bytes | None = IMAGE) -> CreateRequest:
    return read_create(Received(pairs, {} if file is None else {"image": file}, None))


def body(**values: Any) -> CreateRequest:
    values = {"image": {"data": data_uri(IMAGE)}} | values
    return read_create(Received((), {}, json.dumps(values).encode()))


FULL: dict[str, Any] = {
    "model": "camera",
    "prompt": "push in, slowly",
    "resolution": "256p",
    "num_frames": 24,
    "guidance_scale": 7.5,
    "num_inference_steps": 30,
    "outputs": ["poster", "gif"],
    "metadata": {"post": "17", "site[1]": ""},
    "webhook": {"url": "https://cms.example/hook", "event_types": ["job.failed"]},
}

BRACKETS = (
    ("model", "camera"),
    ("prompt", "push in, slowly"),
    ("resolution", "256p"),
    ("num_frames", "24"),
    ("guidance_scale", "7.5"),
    ("steps", "30"),
    ("outputs[]", "poster"),
    ("outputs[]", "gif"),
    ("metadata[post]", "17"),
    ("webhook[url]", "https://cms.example/hook"),
    ("webhook[event_types][]", "job.failed"),
    ("seed", ""),
)

JSON_TEXTS = (
    ("model", "camera"),
    ("prompt", "push in, slowly"),
    ("resolution", "256p"),
    ("num_frames", "24"),
    ("guidance_scale", "7.5"),
    ("num_inference_steps", "30"),
    ("outputs", '["poster", "gif"]'),
    ("metadata", '{"post": "17"}'),
    ("webhook", '{"url": "https://cms.example/hook", "event_types": ["job.failed"]}'),
)


def test_a_form_and_json_say_the_same() -> None:
    full = {**FULL, "metadata": {"post": "17"}}
    assert form(*BRACKETS) == form(*JSON_TEXTS) == body(**full)


@pytest.mark.parametrize(
    ("outputs", "events"),
    [
        ([("outputs", "gif,poster")], [("", "job.started, job.failed")]),
        (
            [("outputs[]", "gif"), ("outputs[]", "poster")],
            [("[]", "job.started"), ("[]", "job.failed")],
        ),
        ([("outputs", '["gif", "poster"]')], [("", '["job.started", "job.failed"]')]),
        ([("outputs", "gif"), ("outputs", "poster")], [("", "job.started"), ("", "job.failed")]),
    ],
    ids=["by comma", "with brackets", "as JSON", "again and again"],
)
def test_a_form_may_hold_a_list_in_any_usual_way(
    outputs: list[tuple[str, str]], events: list[tuple[str, str]]
) -> None:
    named = [(f"webhook[event_types]{brackets}", event) for brackets, event in events]
    fields = form(*outputs, *named, ("webhook[url]", "https://cms.example/hook")).fields
    assert fields.outputs == ("gif", "poster")
    assert fields.webhook is not None
    assert fields.webhook.event_types == ("job.started", "job.failed")


def test_outputs_may_be_sent_once_or_again_and_again() -> None:
    assert form(("outputs", "gif")).fields.outputs == ("gif",)
    assert form(("outputs", "gif"), ("outputs", "poster")).fields.outputs == ("gif", "poster")


def test_empty_metadata_values_are_kept_and_other_empty_fields_are_not_sent() -> None:
    sent = form(("metadata[note]", ""), ("num_frames", ""), ("model", ""))
    assert sent.fields.metadata == {"note": ""}
    assert (sent.fields.num_frames, sent.fields.model) == (None, None)


def test_null_is_not_sent() -> None:
    assert body(fit=None, seed=None, steps=None) == body()


def test_an_image_may_be_an_upload_a_part_or_a_frame() -> None:
    upload = ImageUpload(UUID(int=9))
    assert body(image={"upload_id": UPLOAD}).images.image == upload
    assert form(("image[upload_id]", UPLOAD), file=None).images.image == upload
    frame = ImageFrame(UUID(int=7), -1)
    assert body(image={"job_id": JOB, "frame": -1}).images.image == frame
    assert form(("image[job_id]", JOB), ("image[frame]", "-1"), file=None).images.image == frame
    parts = {"a": b"one", "b": b"two", "c": b"three", "last_frame": b"four"}
    pairs = (
        ("image[part]", "b"),
        (
            "keyframes",
            '[{"frame": 4, "image": {"part": "a"}}, {"frame": -2, "image": {"part": "c"}}]',
        ),
    )
    images = read_create(Received(pairs, parts, None)).images
    assert images == Images(b"two", {"last_frame": b"four"}, ((4, b"one"), (-2, b"three")))
    assert images.given == GivenImages(last_frame=True, keyframes=(4, -2))


@pytest.mark.parametrize(
    ("pairs", "parts", "reason"),
    [
        ((), {"imgae": b"x"}, "the file part is named 'imgae'; name it image"),
        ((("image[part]", "b"),), {"a": b"x"}, "the file part is named 'a'"),
        ((("image[part]", "b"),), {}, "it has none"),
        ((("image[part]", "b"), ("image", "x")), {"b": b"x"}, "sent twice"),
        ((("image[part]", "b"),), {"image": b"x", "b": b"y"}, "image is sent twice"),
    ],
)
def test_a_part_without_a_use_is_refused(
    pairs: tuple[tuple[str, str], ...], parts: dict[str, bytes], reason: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_create(Received(pairs, parts, None))
    assert reason in refused.value.message


def test_a_focus_is_two_numbers_by_comma_or_in_json() -> None:
    assert form(("focus", "0.5, 0.2")).fields.focus == (0.5, 0.2)
    assert form(("focus", "[0.5, 0.2]")).fields.focus == (0.5, 0.2)
    assert body(focus=[0.5, 0.2]).fields.focus == (0.5, 0.2)


@pytest.mark.parametrize(
    "image", [data_uri(IMAGE), {"data": data_uri(IMAGE)}, {"data": data_uri(IMAGE) + "\n"}]
)
def test_an_image_comes_as_a_data_uri_alone_or_as_data(image: object) -> None:
    assert body(image=image).images.image == IMAGE


def test_an_image_may_lie_behind_a_url() -> None:
    there = ImageUrl("https://example.org/a.png")
    assert body(image={"url": there.url}).images.image == there
    assert form(("image[url]", there.url), file=None).images.image == there
    assert form(("image", '{"url": "https://example.org/a.png"}'), file=None).images.image == there


def test_a_form_takes_a_data_uri_too() -> None:
    assert form(("image", data_uri(IMAGE)), file=None).images.image == IMAGE


REFUSED_JSON: list[tuple[dict[str, Any], str, str, str]] = [
    ({"promt": "x"}, "unknown_parameter", "promt", "did you mean prompt?"),
    ({"step": 5}, "unknown_parameter", "step", "did you mean steps?"),
    ({"zzz": 5}, "unknown_parameter", "zzz", "known are image, prompt"),
    ({"steps": 5, "num_inference_steps": 6}, "invalid_request", "steps", "send one"),
    ({"num_frames": "many"}, "invalid_request", "num_frames", "a whole number, not 'many'"),
    ({"num_frames": 8.5}, "invalid_request", "num_frames", "a whole number, not 8.5"),
    ({"guidance_scale": "hot"}, "invalid_request", "guidance_scale", "a number, not 'hot'"),
    ({"seed": -2}, "invalid_request", "seed", "it takes -1 or more"),
    ({"seed": 2**32}, "invalid_request", "seed", "it takes 4294967295 at most"),
    ({"resolution": "500p"}, "invalid_request", "resolution", "'256p', '512p', '768p' or '1024p'"),
    ({"priority": "urgent"}, "invalid_request", "priority", "'low', 'normal' or 'high'"),
    ({"prompt": "x" * 2001}, "invalid_request", "prompt", "2000 characters at most"),
    ({"prompt": 5}, "invalid_request", "prompt", "must be text, not 5"),
    ({"prompt": "a\0b"}, "invalid_request", "prompt", "NUL"),
    ({"metadata": {"a": "b\0"}}, "invalid_request", "a", "NUL"),
    ({"metadata": "x"}, "invalid_request", "metadata", "an object of names and values"),
    ({"metadata": {str(n): "" for n in range(51)}}, "invalid_request", "metadata", "50 at most"),
    ({"metadata": {"k" * 41: ""}}, "invalid_request", f"metadata.{'k' * 41}", "40 characters"),
    ({"metadata": {str(n): 1 for n in range(101)}}, "invalid_request", "metadata", "101 entries"),
    ({"outputs": ["gif"] * 21}, "invalid_request", "outputs", "20 at most"),
    ({"outputs": [1] * 101}, "invalid_request", "outputs", "100 at most"),
    ({"outputs": [1] * 9}, "invalid_request", "outputs.0", "and 6 more"),
    ({"model": "m" * 101}, "invalid_request", "model", "100 characters at most"),
    (
        {"webhook": {"url": "https://a.example", "event_types": ["job.failed"] * 21}},
        "invalid_request",
        "webhook.event_types",
        "20 at most",
    ),
    ({"num_frames": True}, "invalid_request", "num_frames", "a whole number, not True"),
    ({"seed": False}, "invalid_request", "seed", "a whole number, not False"),
    ({"guidance_scale": True}, "invalid_request", "guidance_scale", "a number, not True"),
    ({"num_frames": 10**400}, "invalid_request", "num_frames", "bits is too long for a number"),
    ({"width": -(10**4000)}, "invalid_request", "width", "bits"),
    ({"guidance_scale": "1e999"}, "invalid_request", "guidance_scale", "a number, not '1e999'"),
    ({"guidance_scale": "nan"}, "invalid_request", "guidance_scale", "a number, not 'nan'"),
    ({"prompt": ["x"] * 3}, "invalid_request", "prompt", "must be text, not a list of 3 entries"),
    ({"outputs": "gif"}, "invalid_request", "outputs", "must be a list, not 'gif'"),
    ({"outputs": ["mp3"]}, "invalid_request", "outputs.0", "'poster', 'gif' or 'spritesheet'"),
    ({"webhook": {"url": "nowhere"}}, "invalid_request", "webhook.url", "url"),
    ({"webhook": {"headers": {"A": "b"}}}, "invalid_request", "webhook.url", "is missing"),
    ({"image": None}, "invalid_request", "image", "is missing"),
    ({"image": "example.org/a.png"}, "invalid_request", "image", "data:image/png;base64,"),
    ({"image": f"https://example.org/{'a' * 8000}"}, "invalid_request", "image.url", "8000"),
    ({"ttl": 5}, "unknown_parameter", "ttl", "known are"),
    ({"image": {"url": ""}}, "invalid_request", "image.url", "like https://example.org"),
    ({"image": {"url": "x", "data": "y"}}, "invalid_request", "image", "multipart"),
    ({"image": {"upload_id": "up_1"}}, "invalid_request", "image.upload_id", "POST /v1/uploads"),
    ({"image": {"part": "a"}}, "invalid_request", "image.part", "it has none"),
    ({"image": {"job_id": "job_1", "frame": 0}}, "invalid_request", "image.job_id", "your jobs"),
    ({"image": {"job_id": JOB, "frame": "x"}}, "invalid_request", "image.frame", "-1 its last"),
    ({"image": {"job_id": JOB, "frame": True}}, "invalid_request", "image.frame", "whole number"),
    ({"keyframes": {"frame": 1}}, "invalid_request", "keyframes", "a list of at most 8"),
    ({"keyframes": [{"frame": 1}]}, "invalid_request", "keyframes.0", "nothing else"),
    (
        {"keyframes": [{"frame": 1, "image": 5}]},
        "invalid_request",
        "keyframes.0.image",
        "multipart",
    ),
    ({"last_frame": {"url": ""}}, "invalid_request", "last_frame.url", "like https"),
    ({"focus": [0.5]}, "invalid_request", "focus.1", "missing"),
    ({"focus": [0.5, 1.5]}, "invalid_request", "focus.1", "1.5 is too large"),
    ({"seconds": 0}, "invalid_request", "seconds", "greater than 0"),
    ({"image": {"data": 5}}, "invalid_request", "image", "data:image/png;base64,"),
    ({"image": "data:image/png;base64,%%%"}, "invalid_image", "image", "not valid base64"),
]


@pytest.mark.parametrize(
    ("values", "code", "param", "reason"), REFUSED_JSON, ids=lambda v: str(v)[:30]
)
def test_a_wrong_field_is_named_with_what_would_be_right(
    values: dict[str, Any], code: str, param: str, reason: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        body(**values)
    assert (refused.value.code, refused.value.param) == (code, param)
    assert reason in refused.value.message


REFUSED_FORMS: list[tuple[tuple[tuple[str, str], ...], str]] = [
    ((("prompt", "a"), ("prompt", "b")), "prompt is sent twice"),
    ((("metadata[a]", "1"), ("metadata[a]", "2")), "metadata is sent twice"),
    ((("metadata[a]", "1"), ("metadata[]", "2")), "metadata"),
    (
        (("metadata", '{"a": "1"}'), ("metadata[][b]", "2")),
        "metadata is sent in two ways; use one",
    ),
    ((("prompt", "a"), ("prompt[b]", "c")), "prompt is sent in two ways; use one"),
    ((("metadata", "{not json"),), "metadata is not JSON"),
    ((("meta]data", "x"),), "did you mean metadata?"),
    ((("", "x"),), "there is no field"),
    ((("outputs[][a]", "x"),), "outputs continues after an empty bracket"),
    ((("outputs[][]", "x"),), "outputs continues after an empty bracket"),
    ((("metadata[][][a]", "x"),), "metadata continues after an empty bracket"),
    ((("webhook[event_types][][x]", "x"),), "webhook continues after an empty bracket"),
    ((("image[][url]", "x"),), "image continues after an empty bracket"),
    ((("a[][b][c]", "x"),), "a continues after an empty bracket"),
    ((("outputs", "x," * 100),), "outputs has 101 entries; a list takes 100 at most"),
]


@pytest.mark.parametrize(("pairs", "reason"), REFUSED_FORMS, ids=lambda v: str(v)[:40])
def test_a_muddled_form_is_refused(pairs: tuple[tuple[str, str], ...], reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason.replace("?", r"\?")):
        form(*pairs)


def test_metadata_of_too_many_names_is_refused_in_a_sentence() -> None:
    """Pydantic does not say how many entries an object has."""
    with pytest.raises(InvalidRequest) as refused:
        body(metadata={str(n): "" for n in range(60)})
    assert refused.value.message == "metadata has more than 50 entries; it takes 50 at most"


@pytest.mark.parametrize("field", ["num_frames", "seed", "guidance_scale"])
def test_a_form_sends_numbers_as_texts(field: str) -> None:
    assert getattr(form((field, "9")).fields, field) == 9


def escaped(text: bytes) -> CreateRequest:
    return read_create(Received((), {}, None, text))


def test_an_escaped_form_says_what_the_same_pairs_say() -> None:
    pairs = [*BRACKETS, ("image", data_uri(IMAGE)), ("negative_prompt", "50% + 镜头 é;&=")]
    assert escaped(urlencode(pairs).encode()) == form(*pairs, file=None)


@pytest.mark.parametrize(
    ("text", "said"),
    [("a%41b", "aAb"), ("a%2", "a%2"), ("%zz%", "%zz%"), ("a+b%2B", "a b+"), ("%e9", "é")],
)
def test_an_escape_stands_for_one_byte_and_what_is_none_for_itself(text: str, said: str) -> None:
    sent = f"&prompt={text}&&image={data_uri(IMAGE)}&".encode()
    assert escaped(sent.replace(b"base64,", b"base64%2C")).fields.prompt == said


def test_an_escaped_form_of_too_many_fields_or_escapes_is_refused() -> None:
    for text, reason in ((b"a=b&" * 121, "120 at most"), (b"%41" * 1_500_001, "multipart")):
        with pytest.raises(InvalidRequest, match=reason):
            escaped(b"prompt=" + text)


def test_a_form_without_an_image_says_how_to_send_one() -> None:
    with pytest.raises(InvalidRequest, match="image is missing; it takes a file part") as refused:
        form(("prompt", "x"), file=None)
    assert refused.value.param == "image"


@pytest.mark.parametrize(
    ("before", "repeated", "times", "after"),
    [
        *((text, b"", 0, b"") for text in (b"", b"{", b"[]", b"5", b'"x"', b"\xff")),
        (b"", b"[", 100_000, b""),
        (b"[", b"[],[", 10_000_000, b""),
        (b'{"a":', b'{"a":', 149, b"1" + b"}" * 150),
        (b'{"seed": ', b"9", 10_000_000, b"}"),
        (b'{"image": "data:', b"a", 10_000_000, b'"}'),
        (b'{"image": "data:a/b', b";a", 5_000_000, b'"}'),
        (b'{"', b"prompt", 2_000_000, b'": 1}'),
        (b'{"seed": NaN}', b"", 0, b""),
        (b'{"a": "\\ud800"}', b"", 0, b""),
    ],
    ids=lambda part: str(part)[:20],
)
def test_what_is_no_json_object_is_refused(
    before: bytes, repeated: bytes, times: int, after: bytes
) -> None:
    with pytest.raises(AppError) as refused:
        read_create(Received((), {}, before + repeated * times + after))
    assert refused.value.status == 422
