"""The page tells every error in words with a way out, in both languages, and never as a code."""

import re
from collections.abc import Iterator
from typing import Final

import pytest
from playwright.sync_api import Browser, Page, expect

from shared.errors import (
    AppError,
    BodyTooLarge,
    CardsLost,
    MissingWeights,
    ModelLoading,
    OutOfMemory,
    QueueFull,
    QuotaExceeded,
    RateLimited,
    RenderFailed,
    TooLargeForGpu,
    TooManyStreams,
    Unavailable,
    UnknownModel,
)
from shared.errors.access import Forbidden, LinkExpired, LinkRefused, Unauthenticated
from shared.errors.images import InvalidImage
from tests.support.browser import visit
from tests.support.gateway import FakeWorker, Gateway
from tests.support.page import choose_sample, enter, press_send
from worker.engines.camera.engine import SPEC as CAMERA
from worker.engines.remote.errors import OutcomeUnknown

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

OF_SQL: Final = {"worker_lost", "queue_timeout"}
"""SQL ends a job with these codes, without an engine's error."""

UNSEEN: Final = {CardsLost, LinkExpired, LinkRefused, TooManyStreams}
"""Errors of readiness, links and streams; the page shows none of them as a sentence."""

SAID: Final = {
    OutOfMemory: ("lower resolution or fewer frames", "降低分辨率或减少帧数"),
    ModelLoading: ("in a minute", "一分钟后重试"),
    MissingWeights: ("must download them", "需要服务器管理员下载"),
}
LANGUAGES: Final = ("en-GB", "zh-CN")


def kinds(of: type[AppError]) -> Iterator[type[AppError]]:
    yield of
    for kind in of.__subclasses__():
        yield from kinds(kind)


def codes(*families: type[AppError]) -> set[str]:
    found = {kind for family in families for kind in kinds(family)} - UNSEEN
    return {kind.code for kind in found if "code" in vars(kind)}


def read_words(page: Page) -> list[dict[str, str]]:
    found: list[dict[str, str]] = page.evaluate(
        """Promise.all(['en', 'zh'].map(async (language) => ({
          ...(await import(`/web/${language}.js`)).default,
          ...(await import(`/web/${language}-later.js`)).default,
        })))"""
    )
    return found


def test_both_languages_have_every_word(studio: Gateway, browser: Browser) -> None:
    with visit(browser) as guest:
        enter(guest.page, studio)
        english, chinese = read_words(guest.page)
        assert english.keys() == chinese.keys()
        for name, words in chinese.items():
            holes = re.findall(r"\{\w+\}", english[name])
            assert set(re.findall(r"\{\w+\}", words)) == set(holes), name


def test_every_error_that_the_page_meets_has_its_words(studio: Gateway, browser: Browser) -> None:
    assert issubclass(OutcomeUnknown, RenderFailed)  # Its import lets codes() find such errors.
    ends = codes(RenderFailed) | OF_SQL
    refusals = codes(
        *(BodyTooLarge, Forbidden, InvalidImage, QueueFull, QuotaExceeded, RateLimited),
        *(TooLargeForGpu, Unauthenticated, Unavailable, UnknownModel),
    )
    assert len(ends) > 10
    assert len(refusals) > 20
    wanted = {f"way.{code}" for code in ends} | {f"error.{code}" for code in refusals}
    with visit(browser) as guest:
        enter(guest.page, studio)
        for words in read_words(guest.page):
            assert wanted - words.keys() == set()


@pytest.mark.extended
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_failed_job_says_the_way_out(
    studio: Gateway, fake_worker: FakeWorker, browser: Browser, language: str
) -> None:
    with visit(browser, locale=language) as guest:
        page = guest.page
        enter(page, studio)
        choose_sample(page)
        words = page.locator("#prompt").input_value()
        for error, said in SAID.items():
            press_send(page)
            fake_worker.fail(fake_worker.claim("camera"), error("it went wrong"))
            failed = page.locator(".stage .failed")
            expect(failed).to_contain_text(said[LANGUAGES.index(language)])
            assert page.locator("#prompt").input_value() == words


@pytest.mark.parametrize(
    ("language", "said"), [("en-GB", "make run"), ("zh-CN", "没有工作进程在运行")]
)
def test_without_a_worker_the_page_says_how_to_start_one_and_sees_it_come(
    studio: Gateway, fake_worker: FakeWorker, browser: Browser, language: str, said: str
) -> None:
    fake_worker.clear()
    with visit(browser, locale=language) as guest:
        page = guest.page
        page.goto(studio.url)
        expect(page.locator(".make")).to_contain_text(said)
        fake_worker.offer(CAMERA)
        expect(page.locator("#prompt")).to_be_visible()
        expect(page.locator(".pill")).to_contain_text("Ready" if language == "en-GB" else "就绪")
