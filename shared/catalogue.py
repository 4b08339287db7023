"""What an engine can do, and how a request is settled against it: pure functions, no I/O."""

import math
from enum import StrEnum
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.errors import InvalidRequest
from shared.footprint import Footprint
from shared.numbers import Real, Whole

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
    """How a picture of another shape meets the clip's frame."""

    CROP = "crop"
    PAD = "pad"


class Quality(StrEnum):
    """How much work goes into a clip; a draft alone is approximate."""

    DRAFT = "draft"
    STANDARD = "standard"
    HIGH = "high"


class Shape(StrEnum):
    """How an engine chooses the clip's shape from the picture's."""

    KEEP = "keep"  # the picture's own aspect
    BUCKETS = "buckets"  # the nearest of few aspects, so that compiled shapes are reused


class Span(BaseModel):
    """An inclusive range of numbers."""

    model_config = ConfigDict(frozen=True)

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


class Licence(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    url: str | None = None
    commercial_use: Literal["yes", "no", "ask", "conditions"]
    note: str = ""


class Defaults(BaseModel):
    model_config = ConfigDict(frozen=True)

    resolution: Resolution = Resolution.P512
    num_frames: int = 16
    fps: int = 8
    num_inference_steps: int = 50
    guidance_scale: float = 9.0


class Preset(BaseModel):
    """A named set of values a creator can start from; None leaves the default."""

    model_config = ConfigDict(frozen=True)

    name: str
    resolution: Resolution | None = None
    num_frames: int | None = None
    fps: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None


class Recipe(BaseModel):
    """What a quality means to an engine; steps that a client names itself win over these.

    `approximate` says that the sampler is another than the model's own: the clip is near what
    the standard one would be, and not the same.
    """

    model_config = ConfigDict(frozen=True)

    num_inference_steps: int
    sampler: str
    approximate: bool = False


class EngineSpec(BaseModel):
    """All the gateway and the page need to know of an engine they never import.

    `multiple` is the step of both sides in pixels; `vram_bytes` what a default clip needs on
    the card; `revision` the weights' commit, or the code's version where there are none;
    `prompt_languages` what the text encoder was taught. `qualities` has those it takes beside
    standard, which is its defaults; `footprint` is None where memory sets no limit.
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
    licence: Licence


class Asked(BaseModel):
    """What a client asked of the renderer; None means "the engine's default"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str = Field(default="", max_length=2000)
    negative_prompt: str = Field(default="", max_length=2000)
    resolution: Resolution | None = None
    width: Whole | None = Field(default=None, ge=1)
    height: Whole | None = Field(default=None, ge=1)
    fit: Fit = Fit.CROP
    num_frames: Whole | None = None
    fps: Whole | None = None
    quality: Quality | None = Field(
        default=None,
        description=(
            "How much work goes into the clip. A draft is approximate: fewer steps by another"
            " sampler. standard, the default, and high are exact. num_inference_steps wins over"
            " the number of steps that a quality stands for."
        ),
    )
    num_inference_steps: Whole | None = None
    guidance_scale: Real | None = None
    seed: Whole | None = Field(default=None, ge=0, le=MAX_SEED)


class Parameters(BaseModel):
    """A request settled against one engine: every value fixed, sides in pixels."""

    model_config = ConfigDict(frozen=True)

    prompt: str
    negative_prompt: str
    resolution: Resolution | None
    width: int
    height: int
    fit: Fit
    num_frames: int
    fps: int
    quality: Quality = Quality.STANDARD
    approximate: bool = False
    num_inference_steps: int
    guidance_scale: float
    seed: int


ASPECTS: Final = ((1, 1), (4, 3), (3, 2), (16, 9), (3, 4), (2, 3), (9, 16))


def settle(
    spec: EngineSpec, asked: Asked, *, image_width: int, image_height: int, seed: int
) -> Parameters:
    """Fix every value the client left open, or say which one is out of the engine's range.

    Args:
        seed: used when the client asked for none.

    Raises:
        InvalidRequest: a value is outside the engine's limits; `param` names it.
    """
    if spec.prompt_required and not asked.prompt.strip():
        raise InvalidRequest(
            f"{spec.name} needs a prompt: one sentence that says what moves", param="prompt"
        )
    quality, recipe = _quality(spec, asked.quality)
    chosen = {
        "num_frames": spec.defaults.num_frames if asked.num_frames is None else asked.num_frames,
        "fps": spec.defaults.fps if asked.fps is None else asked.fps,
        "num_inference_steps": (
            recipe.num_inference_steps
            if asked.num_inference_steps is None
            else asked.num_inference_steps
        ),
    }
    guidance_scale = (
        spec.defaults.guidance_scale if asked.guidance_scale is None else asked.guidance_scale
    )
    for name, value in {**chosen, "guidance_scale": guidance_scale}.items():
        _check_span(spec, name, value)
    resolution, (width, height) = _size(spec, asked, image_width, image_height)
    return Parameters(
        prompt=asked.prompt,
        negative_prompt=asked.negative_prompt,
        resolution=resolution,
        width=width,
        height=height,
        fit=asked.fit,
        quality=quality,
        approximate=recipe.approximate,
        guidance_scale=guidance_scale,
        seed=seed if asked.seed is None else asked.seed,
        **chosen,
    )


def buckets(spec: EngineSpec, resolution: Resolution) -> tuple[tuple[int, int], ...]:
    """Return the (width, height) shapes an engine with `Shape.BUCKETS` renders at."""
    short = resolution.short_side
    return tuple(
        (_snap(short * w / min(w, h), spec.multiple), _snap(short * h / min(w, h), spec.multiple))
        for w, h in ASPECTS
    )


def _quality(spec: EngineSpec, asked: Quality | None) -> tuple[Quality, Recipe]:
    """Return the quality and what it means; an engine without steps has one and ignores others."""
    standard = Recipe(num_inference_steps=spec.defaults.num_inference_steps, sampler="")
    if asked in (None, Quality.STANDARD) or not spec.uses_steps:
        return Quality.STANDARD, standard
    if asked not in spec.qualities:
        known = ", ".join(each for each in Quality if each in {Quality.STANDARD, *spec.qualities})
        raise InvalidRequest(
            f"{spec.name} has no quality {asked}; it takes {known}", param="quality"
        )
    return asked, spec.qualities[asked]


def _check_span(spec: EngineSpec, name: str, value: float) -> None:
    span: Span = getattr(spec, name)
    if value not in span or not math.isfinite(value):
        raise InvalidRequest(
            f"{name} {value:g} is out of range for {spec.name};"
            f" it takes {span.low:g} to {span.high:g}",
            param=name,
        )


def _size(
    spec: EngineSpec, asked: Asked, image_width: int, image_height: int
) -> tuple[Resolution | None, tuple[int, int]]:
    if asked.width is not None or asked.height is not None:
        return None, _explicit_size(spec, asked, image_width / image_height)
    resolution = asked.resolution or spec.defaults.resolution
    if spec.shape is Shape.BUCKETS:
        aspect = math.log(image_width / image_height)
        size = min(buckets(spec, resolution), key=lambda s: abs(math.log(s[0] / s[1]) - aspect))
    else:
        scale = resolution.short_side / min(image_width, image_height)
        size = (
            _snap(image_width * scale, spec.multiple),
            _snap(image_height * scale, spec.multiple),
        )
    if max(size) > spec.max_side:
        raise InvalidRequest(
            f"this picture is {image_width} x {image_height}; at {resolution} its clip would be"
            f" {size[0]} x {size[1]}, and {spec.name} goes up to {spec.max_side} on a side:"
            " crop the picture, or ask for a lower resolution",
            param="resolution",
        )
    return resolution, size


def _explicit_size(spec: EngineSpec, asked: Asked, aspect: float) -> tuple[int, int]:
    """Return the sides asked for; a missing one follows the picture's aspect."""
    sides: dict[str, int] = {}
    for name, given, derived in (
        ("width", asked.width, (asked.height or 0) * aspect),
        ("height", asked.height, (asked.width or 0) / aspect),
    ):
        side = _snap(derived, spec.multiple) if given is None else given
        if side % spec.multiple:
            below = side - side % spec.multiple
            raise InvalidRequest(
                f"{name} {side} is not a multiple of {spec.multiple};"
                f" try {max(below, spec.multiple)} or {below + spec.multiple}",
                param=name,
            )
        if not MIN_SIDE <= side <= spec.max_side:
            raise InvalidRequest(
                f"{name} {side} is out of range for {spec.name}; it takes {MIN_SIDE} to"
                f" {spec.max_side}",
                param=name,
            )
        sides[name] = side
    return sides["width"], sides["height"]


def _snap(side: float, multiple: int) -> int:
    return max(multiple, round(side / multiple) * multiple)
