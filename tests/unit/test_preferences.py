"""Headers that say how to answer, and the warnings that come with an answer."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from api.dependencies import Preferences, preferences
from api.submit.idempotency import fingerprint, idempotency_key
from api.submit.image_source import ImageUrl
from api.submit.images import Images
from api.submit.warnings import warnings_for
from shared.engines.parameters import resolve_parameters
from shared.engines.registry import OfferedEngine
from shared.engines.spec import EngineSpec
from shared.engines.weights import WeightsState, WeightsView
from shared.errors import InvalidRequest
from shared.jobs.create import CreateJob
from tests.support.gateway import MODEL, MOVES
from worker.engines.i2vgen.engine import SPEC as I2VGEN_XL
from worker.engines.wan.engine import SPEC as WAN

NOW = datetime(2026, 11, 22, tzinfo=UTC)
CHINESE = "镜头缓慢推进"


@pytest.mark.parametrize(
    ("header", "seconds", "respond_async"),
    [
        (None, None, False),
        ("wait=10", 10, False),
        ('wait="10"', 10, False),
        ("WAIT=0", 0, False),
        ("wait=3600", 60, False),
        ("respond-async, wait=5", 5, True),
        ("wait=soon, handling=lenient", None, False),
        ("wait=-5", None, False),
    ],
)
def test_prefer_is_read_and_what_cannot_be_is_ignored(
    header: str | None, seconds: int | None, respond_async: bool
) -> None:
    wait = None if seconds is None else timedelta(seconds=seconds)
    assert asyncio.run(preferences(header)) == Preferences(wait, respond_async)


@pytest.mark.parametrize(
    ("header", "key"),
    [(None, None), ("abc", "abc"), ('"abc"', "abc"), (" a-1 ", "a-1"), ("my key 7", "my key 7")],
)
def test_an_idempotency_key_comes_bare_or_quoted(header: str | None, key: str | None) -> None:
    assert asyncio.run(idempotency_key(header)) == key


@pytest.mark.parametrize("header", ["", " ", '""', '" "', "é", "x" * 256, "a\0b"])
def test_a_key_that_cannot_be_kept_is_refused(header: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        asyncio.run(idempotency_key(header))
    assert refused.value.param == "Idempotency-Key"


def test_the_fingerprint_tells_requests_apart_and_spellings_not() -> None:
    plain = fingerprint(CreateJob(prompt="a"), Images(b"1"))
    assert plain == fingerprint(
        CreateJob.model_validate({"prompt": "a", "seed": None}), Images(b"1")
    )
    assert plain != fingerprint(CreateJob(prompt="b"), Images(b"1"))
    assert plain != fingerprint(CreateJob(prompt="a"), Images(b"2"))
    there = fingerprint(CreateJob(prompt="a"), Images(ImageUrl("https://example.org/1")))
    assert there == fingerprint(CreateJob(prompt="a"), Images(ImageUrl("https://example.org/1")))
    assert there != fingerprint(CreateJob(prompt="a"), Images(ImageUrl("https://example.org/2")))
    assert there != fingerprint(CreateJob(prompt="a"), Images(b"https://example.org/1"))


def test_a_release_that_adds_a_field_knows_the_requests_from_before_it() -> None:
    class Next(CreateJob):
        loop: bool = False

    asked = {"prompt": "a", "metadata": {"k": "v"}, "webhook": {"url": "https://a.example"}}
    before = fingerprint(CreateJob.model_validate(asked), Images(b"1"))
    assert fingerprint(Next.model_validate(asked), Images(b"1")) == before
    assert fingerprint(Next.model_validate({**asked, "loop": True}), Images(b"1")) != before
    assert fingerprint(CreateJob.model_validate({**asked, "fit": "crop"}), Images(b"1")) == before


def warned(
    spec: EngineSpec, *, workers: int = 1, weights: WeightsView | None = None, **fields: object
) -> str:
    sent = CreateJob.model_validate(fields)
    said = sent.model_copy(update={"prompt": "it moves"})
    settled = resolve_parameters(spec, said, image_width=64, image_height=64, seed=1)
    offer = OfferedEngine(spec, workers, NOW, weights=weights)
    return " ".join(warnings_for(offer, sent, settled))


def test_a_field_the_model_ignores_is_said() -> None:
    deaf = MODEL.model_copy(update={"uses_prompt": False, "uses_guidance": False})
    assert "prompt was ignored: model does not use it" in warned(deaf, prompt="x")
    assert "guidance_scale was ignored" in warned(deaf, guidance_scale=1)
    assert "negative_prompt was ignored" in warned(MODEL, negative_prompt="blur")
    assert "resolution was ignored: width and height" in warned(MODEL, resolution="256p", width=64)
    assert warned(MODEL, prompt="x", guidance_scale=1, num_inference_steps=5) == ""


def test_a_model_that_reads_english_only_warns_of_another_script() -> None:
    multilingual = MODEL.model_copy(update={"prompt_languages": ("en", "zh")})
    assert warned(MODEL, prompt=CHINESE) == (
        "model was taught English only, and the Chinese letters of the prompt mean nothing to it:"
        " write it in English"
    )
    assert "the Cyrillic letters" in warned(MODEL, negative_prompt="кот")
    assert warned(MODEL, prompt="16 µm, ª ½ ｗｉｄｅ") == ""
    assert warned(MODEL, prompt="a café, 16 frames — naïve!") == ""
    assert warned(multilingual, prompt=CHINESE) == ""
    assert "English and Chinese only, and the Korean" in warned(multilingual, prompt="고양이")
    many = MODEL.model_copy(update={"prompt_languages": ("en", "mul")})
    assert warned(many, prompt="고양이 кот") == ""
    assert warned(MOVES, prompt=CHINESE) == ""


def test_the_models_that_exist_say_what_their_encoders_read() -> None:
    assert "mul" in WAN.prompt_languages
    assert I2VGEN_XL.prompt_languages == ("en",)
    assert "Chinese letters" in warned(I2VGEN_XL, prompt=CHINESE)
    assert warned(WAN, prompt=CHINESE) == ""


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (None, ""),
        (WeightsView(state=WeightsState.READY), ""),
        (
            WeightsView(state=WeightsState.DOWNLOADING, bytes_done=3, bytes_total=4),
            "the weights of model are being downloaded, 75 % so far; the job waits",
        ),
        (
            WeightsView(state=WeightsState.MISSING, message="pull them"),
            "no worker has all the weights of model: pull them",
        ),
    ],
)
def test_weights_that_are_not_there_are_said(weights: WeightsView | None, said: str) -> None:
    assert warned(MODEL, weights=weights) == said


def test_a_model_nobody_serves_now_is_said() -> None:
    assert "no worker serves moves now" in warned(MOVES, workers=0)
