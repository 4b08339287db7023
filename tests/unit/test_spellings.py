"""A request means the same in every usual spelling: forms, JSON and base64."""

import base64
import json
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.submit.body import CreateRequest, Received, read_create
from api.submit.idempotency import fingerprint
from api.submit.image_source import ImageUrl
from shared.errors import InvalidRequest

TEXTS = st.text(
    st.characters(categories=["L", "M", "N", "P", "S", "Zs"]), min_size=1, max_size=40
).filter(lambda text: text.strip())
IMAGES = st.binary(min_size=1, max_size=300)
BLANK = st.sampled_from(["", " ", "\t", "null", "undefined", "None"])

FIELDS = st.fixed_dictionaries(
    {"prompt": TEXTS},
    optional={
        "negative_prompt": TEXTS,
        "num_frames": st.integers(1, 64),
        "fps": st.integers(1, 60),
        "seed": st.integers(-1, 2**32 - 1),
        "guidance_scale": st.floats(0, 30).map(lambda value: round(value, 3)),
        "resolution": st.sampled_from(["256p", "512p"]),
        "fit": st.sampled_from(["crop", "pad"]),
        "outputs": st.lists(st.sampled_from(["poster", "gif"]), min_size=1, max_size=3),
        "metadata": st.dictionaries(st.sampled_from("abc"), TEXTS, min_size=1),
    },
)


def of_json(values: dict[str, Any], *, bom: bool = False) -> CreateRequest:
    text = json.dumps(values).encode()
    return read_create(Received((), {}, b"\xef\xbb\xbf" + text if bom else text))


def pairs_of(values: dict[str, Any], *, brackets: bool) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        if brackets and isinstance(value, dict):
            pairs += [(f"{name}[{key}]", inner) for key, inner in value.items()]
        elif brackets and isinstance(value, list):
            pairs += [(f"{name}[]", inner) for inner in value]
        else:
            pairs.append((name, value if isinstance(value, str) else json.dumps(value)))
    return pairs


def same(first: CreateRequest, second: CreateRequest) -> bool:
    return fingerprint(first.fields, first.images) == fingerprint(second.fields, second.images)


@settings(deadline=None)  # Other work on the core makes an example slow.
@given(FIELDS, IMAGES, st.booleans(), BLANK, st.booleans())
def test_a_form_and_json_of_the_same_meaning_make_the_same_job(
    values: dict[str, Any], image: bytes, brackets: bool, blank: str, bom: bool
) -> None:
    uri = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    as_json = of_json(values | {"image": {"data": uri}}, bom=bom)
    left_open = [("model", blank), ("width", blank), ("webhook[url]", blank)]
    pairs = pairs_of(values, brackets=brackets)
    assert same(as_json, read_create(Received([*left_open, *pairs], {"image": image}, None)))
    assert same(as_json, read_create(Received([*pairs, ("image", uri)], {}, None)))
    escaped = urlencode([*pairs, ("image", uri)]).encode()
    assert same(as_json, read_create(Received((), {}, None, escaped)))
    left: tuple[dict[str, Any], ...] = (
        {"model": blank, "width": blank, "webhook": {"url": blank}},
        {"model": None, "width": [], "webhook": [], "last_frame": {}, "keyframes": blank},
    )
    for blanks in left:
        assert same(as_json, of_json(blanks | values | {"image": uri}))


def wrapped(text: str, width: int, line_break: str) -> str:
    return line_break.join(text[at : at + width] for at in range(0, len(text), width))


@settings(deadline=None)
@given(st.binary(min_size=90, max_size=600), st.sampled_from(["\n", "\r\n", " ", "\n  ", "\t"]))
def test_base64_is_read_however_its_lines_are_broken(image: bytes, line_break: str) -> None:
    text = wrapped(base64.b64encode(image).decode(), 76, line_break)
    assert of_json({"image": f"data:image/png;base64,{text}"}).images.image == image


@settings(deadline=None)
@given(IMAGES, st.booleans(), st.booleans(), st.sampled_from(["{}", " {} ", "data:;base64,{}"]))
def test_base64_is_read_in_both_alphabets_with_and_without_its_padding(
    image: bytes, is_url_safe: bool, is_padded: bool, around: str
) -> None:
    encode = base64.urlsafe_b64encode if is_url_safe else base64.b64encode
    text = encode(image).decode()
    text = around.format(text if is_padded else text.rstrip("="))
    assert of_json({"image": text}).images.image == image
    assert of_json({"image": {"data": text}}).images.image == image
    uri = f"data:image/png;base64,{encode(image).decode()}"
    assert of_json({"image": {"url": uri}}).images.image == image


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=400))
def test_plus_signs_that_were_not_escaped_arrive_as_what_they_were(image: bytes) -> None:
    """This works unless they stand at the end, where a blank is only a blank."""
    text = base64.b64encode(image).decode()
    if text.strip("+") != text:
        return
    body = b"prompt=x&image=data:image/png;base64," + text.encode()
    assert read_create(Received((), {}, None, body)).images.image == image


@pytest.mark.parametrize(
    "text",
    [
        "data:image/png; base64, {}",
        "DATA:IMAGE/PNG;BASE64,{}",
        "data:image/png;name=a.png;base64,{}",
        "data:image/png;charset=utf-8;base64,{}",
        "data:;base64,{}",
        "\n data:image/png;base64,{}\n",
        'data:image/png;name="a, b.png";base64,{}',
        "data:base64,{}",
        "data%3Aimage%2Fpng%3Bbase64%2C{}",
        "\ufeffdata:image/png;base64,{}",
        '"data:image/png;base64,{}"',
        "image/png;base64,{}",
        "base64,{}",
    ],
)
def test_a_data_uri_has_many_heads(text: str) -> None:
    image = bytes(range(251, 256)) * 9
    encoded = base64.b64encode(image).decode()
    assert of_json({"image": text.format(encoded)}).images.image == image
    assert of_json({"image": text.format(quote_plus(encoded))}).images.image == image


@pytest.mark.parametrize("length", [30, 2_100, 4_000])
def test_a_url_may_be_as_long_as_presigned_links_are_and_have_blanks_around(length: int) -> None:
    url = f"https://example.org/{'a' * (length - 20)}"
    for image in (url, f" {url}\n", {"url": url}, {"url": f"  {url} "}):
        assert of_json({"image": image}).images.image == ImageUrl(url)
    assert read_create(Received([("image", f" {url}")], {}, None)).images.image == ImageUrl(url)


@pytest.mark.parametrize("mark", ["\ufeff", ""])
@pytest.mark.parametrize("name", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_json_of_windows_in_wide_letters_is_told(name: str, mark: str) -> None:
    text = f'{mark}{{"prompt": "x"}}'.encode(name)
    with pytest.raises(InvalidRequest, match=r"is in UTF-16, or another.*; send JSON in UTF-8"):
        read_create(Received((), {}, text))


def test_a_name_that_is_only_a_little_alike_is_not_suggested() -> None:
    with pytest.raises(InvalidRequest) as refused:
        of_json({"image": "abcd", "ttl": 4})
    assert "did you mean" not in refused.value.message


def test_a_list_may_come_in_numbered_parts_as_php_writes_it() -> None:
    pairs = [("outputs[0]", "gif"), ("outputs[1]", "poster"), ("focus[0]", "0.5")]
    pairs += [("focus[1]", "0.25"), ("webhook[url]", "https://cms.example/hook")]
    pairs += [("webhook[event_types][0]", "job.failed")]
    pairs += [("keyframes[0][frame]", "8"), ("keyframes[0][image]", "https://cms.example/a.png")]
    sent = read_create(Received(pairs, {"image": b"an image"}, None))
    assert sent.fields.outputs == ("gif", "poster")
    assert sent.fields.focus == (0.5, 0.25)
    assert sent.fields.webhook is not None
    assert sent.fields.webhook.event_types == ("job.failed",)
    assert sent.images.keyframes == ((8, ImageUrl("https://cms.example/a.png")),)


@pytest.mark.parametrize("text", ["sch%F6n", "sch%C3%B6n", "%EF%BB%BFsch%C3%B6n"])
def test_a_text_in_the_letters_of_an_old_page_is_read(text: str) -> None:
    body = f"prompt={text}&image=data:,x".encode()
    assert read_create(Received((), {}, None, body)).fields.prompt == "schön"
    marked = b"\xef\xbb\xbf" + body
    assert read_create(Received((), {}, None, marked)).fields.prompt == "schön"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"\x1f\x8b\x08\0", "is compressed with gzip; send it uncompressed"),
        ('{"prompt": "schön"}'.encode("latin-1"), "its bytes are not UTF-8; send JSON in UTF-8"),
        (b'{"prompt": "\\ud83d"}', "it has half of a character"),
        (b'{"fps": NaN}', "it has no NaN and no Infinity; leave the field out"),
        (b'{"focus": [0, -Infinity]}', "it has no NaN and no Infinity"),
    ],
)
def test_json_that_is_none_is_told_what_would_be_right(body: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_create(Received((), {}, body))
    assert said in refused.value.message


def test_of_two_values_of_one_name_json_means_the_last() -> None:
    body = b'{"image": "data:,x", "prompt": "a", "prompt": "b"}'
    assert read_create(Received((), {}, body)).fields.prompt == "b"
