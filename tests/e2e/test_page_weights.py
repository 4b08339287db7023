"""The page shows the state of a model whose weights are not complete yet."""

import pytest
from playwright.sync_api import Browser, expect

from shared.engines.weights import WeightsState, WeightsView
from tests.support.browser import visit
from tests.support.gateway import MODEL, FakeWorker, Gateway

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

LATER_MS = 30_000
GIGABYTE = 10**9


def standing(fake_worker: FakeWorker, state: WeightsState, **told: object) -> None:
    fake_worker.offer(MODEL, weights={MODEL.name: WeightsView(state=state, **told)})


@pytest.mark.extended
@pytest.mark.parametrize(
    ("locale", "missing", "half"),
    [
        ("en-GB", "weights are not complete yet: pull them", "25 % of 8 GB"),
        ("zh-CN", "模型权重尚未就绪：pull them", "8 GB 中的 25 %"),
    ],
)
def test_a_download_is_seen_to_go_on_and_to_end(
    gateway: Gateway,
    fake_worker: FakeWorker,
    browser: Browser,
    locale: str,
    missing: str,
    half: str,
) -> None:
    fake_worker.clear()
    standing(fake_worker, WeightsState.MISSING, message="pull them")
    with visit(browser, locale=locale) as guest:
        page = guest.page
        page.goto(gateway.url)
        said = page.locator(".weights")
        expect(said).to_contain_text(missing)
        standing(
            fake_worker,
            WeightsState.DOWNLOADING,
            bytes_done=2 * GIGABYTE,
            bytes_total=8 * GIGABYTE,
        )
        expect(said).to_contain_text(half, timeout=LATER_MS)
        standing(fake_worker, WeightsState.READY)
        expect(said).to_have_count(0, timeout=LATER_MS)
        assert guest.complaints == []
