"""What an engine can do: plain data that the gateway, the page and the worker share."""

import math
from enum import StrEnum
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.engines.gpu_memory import Footprint

MAX_SEED: Final = 2**32 - 1
MIN_SIDE: Final = 64


class Resolution(StrEnum):
    """The short side of the clip."""

    P256 = "256p"
    P512 = "512p"
    P768 = "768p"
    P1024 = "1024p"

    @property
    def short_side(self) -> int:
        return int(self.value[:-1])


class Fit(StrEnum):
    """How an image of another shape is fitted to the clip's frame."""

    CROP = "crop"
    PAD = "pad"
    BLUR = "blur"  # like pad, with the image itself, blurred, in place of black bars


class Quality(StrEnum):
    """How much work goes into a clip; only a draft is approximate."""

    DRAFT = "draft"
    STANDARD = "standard"
    HIGH = "high"


class Honours:
    """The newer fields that a job may need, which not every engine supports.

    They are plain texts, because a gateway may read the specs of newer workers. Add a name for
    each field that a worker of the last release would ignore.
    """

    FOCUS: Final = "focus"
    BLUR: Final = "fit_blur"
    LAST_FRAME: Final = "last_frame"
    KEYFRAMES: Final = "keyframes"


class Shape(StrEnum):
    """How an engine chooses the clip's shape from that of the image."""

    KEEP = "keep"  # the image's own aspect
    BUCKETS = "buckets"  # the nearest of few aspects, so that compiled shapes are reused


class Span(BaseModel):
    """An inclusive range of numbers; with a `step`, only `low` and each step above it."""

    model_config = ConfigDict(frozen=True)

    low: float
    high: float
    step: int | None = None

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high and (
            self.step is None or (value - self.low) % self.step == 0
        )

    def __str__(self) -> str:
        steps = "" if self.step is None else f" in steps of {self.step}"
        return f"{self.low:g} to {self.high:g}{steps}"

    def nearest(self, value: float) -> int:
        """Return the whole number of the range that is nearest to `value`; halves go up."""
        step = self.step or 1
        most = int((self.high - self.low) // step)
        count = math.floor((value - self.low) / step + 0.5)
        return int(self.low) + step * min(max(count, 0), most)


class Licence(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    url: str | None = None
    commercial_use: Literal["yes", "no", "ask", "conditions"]
    note: str = ""


class Hosted(BaseModel):
    """The provider that gets the image and the prompt of a job, and its price.

    `model` is the provider's name for the model. `usd_per_second` is the operator's price for a
    second of clip.
    """

    model_config = ConfigDict(frozen=True)

    provider: str
    model: str
    usd_per_second: float = Field(ge=0)

    def price_micros(self, seconds: float) -> int:
        """Return the price of a clip, in millionths of a dollar."""
        return math.ceil(round(self.usd_per_second * seconds * 1_000_000, 3))


class Defaults(BaseModel):
    model_config = ConfigDict(frozen=True)

    resolution: Resolution = Resolution.P512
    num_frames: int = 16
    fps: int = 8
    num_inference_steps: int = 50
    guidance_scale: float = 9.0


class Preset(BaseModel):
    """A named set of values to start from; None leaves the default."""

    model_config = ConfigDict(frozen=True)

    name: str
    resolution: Resolution | None = None
    num_frames: int | None = None
    fps: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None


class Recipe(BaseModel):
    """What a quality means for an engine; steps that a client sends win over these.

    `approximate` says that the sampler is not the model's own: the clip is near the standard clip,
    but not the same.
    """

    model_config = ConfigDict(frozen=True)

    num_inference_steps: int
    sampler: str
    approximate: bool = False


class EngineSpec(BaseModel):
    """All that the gateway and the page need to know about an engine that they never import.

    `multiple` is the step of both sides in pixels. `vram_bytes` is what a default clip needs on
    the card. `revision` is the weights' commit, or the code's version if there are no weights.
    `prompt_languages` are those that the text encoder learned (ISO 639; `mul` for many more).
    `qualities` has those that it offers beside standard, which is its defaults. `footprint` is
    None if memory sets no limit. `honours` has the values of `Honours` that it supports. `sizes`
    are the only (width, height) pairs that it makes; the nearest to the image's shape is taken.
    `hosted` is set if it is a paid provider's, which gets the image.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    description: str
    revision: str
    ai_generated: bool
    uses_prompt: bool
    prompt_required: bool = False
    prompt_languages: tuple[str, ...] = ("en",)
    uses_negative_prompt: bool = False
    uses_steps: bool = True
    uses_guidance: bool = True
    needs_gpu: bool
    shape: Shape
    multiple: int = Field(ge=1)
    max_side: int = 4096
    num_frames: Span = Span(low=8, high=32)
    fps: Span = Span(low=1, high=60)
    num_inference_steps: Span = Span(low=1, high=200)
    guidance_scale: Span = Span(low=0, high=30)
    defaults: Defaults = Defaults()
    presets: tuple[Preset, ...] = ()
    qualities: dict[Quality, Recipe] = {}
    vram_bytes: int = 0
    footprint: Footprint | None = None
    honours: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    hosted: Hosted | None = None
    licence: Licence
