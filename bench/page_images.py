"""Makes the README's images: a whole run of the page as a GIF, and screenshots of the page.

Run `python -m bench.page_images http://127.0.0.1:7860` while a service of the camera engine runs,
as `make run` starts it. Moving parts are stopped and photographed step by step, so that the GIF is
also smooth on a busy machine. Only the wait for the render is left out of it.
"""

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import PIL.Image
import PIL.ImageDraw
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.browser import launched, visit

DOCS: Final = Path(__file__).parents[1] / "docs"
SIZE: Final = {"width": 1200, "height": 750}
SHOWN: Final = (640, 400)
SMOOTH_MS: Final = 125
MAX_BYTES: Final = 2_500_000  # The most bytes that a project page should cost a phone.
RENDER_MS: Final = 180_000
CURSOR: Final = ((0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12))
MOVES: Final = 8
"""Steps of the camera's preview, which takes 3.4 s."""
OURS: Final = (
    *("100f0d", "191714", "24211d", "0c0b0a", "35312a", "f4f0e8", "aaa294", "ff9a4a", "ffb170"),
    *("23130a", "6fcf8d", "080706", "ffffff", "000000", "2d2014", "6b665d", "d0ccc4", "7f5230"),
)
"""Colours of the page's dark theme, and of its letters' edges."""
RENDERING: Final = 6
"""How much of the waiting is shown."""

STOP: Final = """(part) => document.getAnimations().forEach((each) => {
  each.pause();
  each.currentTime = part * 3400;
})"""
SEEK: Final = """(frame) => new Promise((done) => {
  const clip = document.querySelector(".frame video");
  clip.pause();
  clip.addEventListener("seeked", () => requestAnimationFrame(() => done()), { once: true });
  clip.currentTime = (frame + 0.5) / 8;
})"""


@dataclass
class Reel:
    """The frames of the GIF, each with its duration and the place of the pointer."""

    page: Page
    at: tuple[float, float] = (600, 560)
    frames: list[PIL.Image.Image] = field(default_factory=list)
    milliseconds: list[int] = field(default_factory=list)

    def take(self, milliseconds: int) -> None:
        image = PIL.Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        pen = PIL.ImageDraw.Draw(image)
        scaled = [(self.at[0] + 1.5 * x, self.at[1] + 1.5 * y) for x, y in CURSOR]
        pen.polygon(scaled, fill="white", outline="black", width=2)
        self.frames.append(image.resize(SHOWN, PIL.Image.Resampling.LANCZOS))
        self.milliseconds.append(milliseconds)

    def point(self, target: Locator, steps: int = 4) -> None:
        """Move the pointer to the middle of an element."""
        box = target.bounding_box()
        assert box
        to = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        x, y = self.at
        for step in range(1, steps + 1):
            part = step / steps
            self.at = (x + (to[0] - x) * part, y + (to[1] - y) * part)
            self.take(60)
        self.milliseconds[-1] = 350

    def _colours(self) -> bytes:
        """Return one palette for all frames, so that still parts keep their colours.

        The colours of the page come first, because photos have far more pixels than these.
        """
        sheet = PIL.Image.new("RGB", (SHOWN[0], SHOWN[1] * 3))
        for row, at in enumerate((0, len(self.frames) // 2, -1)):
            sheet.paste(self.frames[at], (0, SHOWN[1] * row))
        photos = sheet.quantize(256 - len(OURS), method=PIL.Image.Quantize.MEDIANCUT)
        own = b"".join(bytes.fromhex(colour) for colour in OURS)
        return own + bytes(photos.getpalette() or [])[: 768 - len(own)]

    def gif(self) -> bytes:
        palette = PIL.Image.new("P", (1, 1))
        palette.putpalette(self._colours())
        dither = PIL.Image.Dither.NONE
        first, *rest = [each.quantize(palette=palette, dither=dither) for each in self.frames]
        file = io.BytesIO()
        options: dict[str, Any] = {"append_images": rest, "duration": self.milliseconds}
        first.save(file, "GIF", save_all=True, loop=0, optimize=False, **options)
        return file.getvalue()


def run(browser: Browser, url: str) -> bytes:
    """Return a whole run: the sample, its move, the render, the clip."""
    with visit(browser, locale="en-GB", viewport=SIZE, color_scheme="dark") as guest:
        page = guest.page
        reel = Reel(page)
        page.goto(url)
        page.locator(".sample img").last.wait_for()
        page.wait_for_load_state("networkidle")
        page.evaluate(STOP, 0)
        reel.take(900)
        reel.point(page.locator(".sample").first)
        page.locator(".sample").first.click()
        page.locator(".is-ready img").wait_for()
        for step in range(MOVES):
            page.evaluate(STOP, step / MOVES)
            reel.take(SMOOTH_MS)
        reel.point(page.locator(".big"))
        page.locator(".big").click()
        for _ in rendering(page):
            reel.take(300)
        for frame in range(16):
            page.evaluate(SEEK, frame)
            reel.take(SMOOTH_MS)
        reel.milliseconds[-1] = 1500
        return reel.gif()


def rendering(page: Page) -> Iterator[None]:
    """Yield at most so many times while the clip is made; return when it is ready."""
    done, bar = page.locator(".frame video"), page.locator(".is-rendering .bar")
    bar.or_(done).first.wait_for()
    for _ in range(RENDERING):
        if done.count() == 0:
            yield
    expect(done).to_be_visible(timeout=RENDER_MS)
    page.locator(".library .clip").first.wait_for()


def screenshots(browser: Browser, url: str) -> None:
    """Write the page with a clip in each language, and the page on a phone."""
    desk = {"viewport": {"width": 1440, "height": 900}}
    hand = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
    for name, language, theme, size in (
        ("page", "en-GB", "dark", desk),
        ("page-zh", "zh-CN", "light", desk),
        ("page-phone", "en-GB", "light", {**hand, "device_scale_factor": 2}),
    ):
        with visit(browser, locale=language, color_scheme=theme, **size) as guest:
            page = guest.page
            page.goto(url)
            page.locator(".narrow-samples button:visible, .sample:visible").last.click()
            page.locator(".big").click()
            expect(page.locator(".frame video")).to_be_visible(timeout=RENDER_MS)
            page.wait_for_load_state("networkidle")
            page.evaluate(SEEK, 9)
            image = PIL.Image.open(io.BytesIO(page.screenshot()))
            image.save(DOCS / f"{name}.webp", "WEBP", quality=80, method=6)


def main() -> None:
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7860"
    with launched() as browser:
        data = run(browser, url)
        if len(data) > MAX_BYTES:
            raise SystemExit(f"the GIF has {len(data)} bytes; at most {MAX_BYTES} are welcome")
        (DOCS / "run.gif").write_bytes(data)
        print(f"docs/run.gif: {len(data)} bytes")
        screenshots(browser, url)


if __name__ == "__main__":
    main()
