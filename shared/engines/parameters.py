"""How a request is resolved against an engine: pure functions, no I/O."""

import math
from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from shared.engines.given_images import GIVEN, GivenImages
from shared.engines.spec import (
    MAX_SEED,
    MIN_SIDE,
    EngineSpec,
    Fit,
    Honours,
    Quality,
    Recipe,
    Resolution,
    Shape,
    Span,
)
from shared.errors import InvalidRequest
from shared.numbers import Real, Whole

T = TypeVar("T")

DRAWN_SEED: Final = -1
"""What other programs call a seed that is drawn anew for each clip."""


def _drawn(seed: int | None) -> int | None:
    return None if seed == DRAWN_SEED else seed


MIDDLE: Final = (0.5, 0.5)

Fraction = Annotated[Real, Field(ge=0, le=1)]


# The page under /docs breaks on `prefixItems`, and on a list that has neither default nor example.
Focus = Annotated[
    tuple[Fraction, Fraction],
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "number", "minimum": 0, "maximum": 1},
            "minItems": 2,
            "maxItems": 2,
            "examples": [[0.5, 0.5]],
        }
    ),
]


class RequestedParameters(BaseModel):
    """What a client asked of the renderer; None means "the engine's default"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str = Field(default="", max_length=2000)
    negative_prompt: str = Field(default="", max_length=2000)
    resolution: Resolution | None = None
    width: Whole | None = Field(default=None, ge=1)
    height: Whole | None = Field(default=None, ge=1)
    fit: Fit = Fit.CROP
    focus: Focus | None = Field(
        default=None,
        description=(
            "The point that the camera moves towards and around: two fractions of the image, from"
            " its left and from its top. The default is its middle, 0.5 and 0.5."
        ),
    )
    num_frames: Whole | None = None
    seconds: Real | None = Field(
        default=None,
        gt=0,
        le=3600,
        description=(
            "The clip's length, in place of num_frames: it becomes the nearest that the model"
            " makes at this fps."
        ),
    )
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
    seed: Annotated[Whole | None, AfterValidator(_drawn)] = Field(
        default=None, ge=DRAWN_SEED, le=MAX_SEED, description="-1 draws one, like a missing seed."
    )


class RenderParameters(BaseModel):
    """A request settled against one engine: every value fixed, sides in pixels.

    `keyframes` are the numbers of the frames that have an input of their own, `last_frame` says
    that the last one has.
    """

    model_config = ConfigDict(frozen=True)

    prompt: str
    negative_prompt: str
    resolution: Resolution | None
    width: int
    height: int
    fit: Fit
    focus: tuple[float, float] = MIDDLE
    num_frames: int
    fps: int
    quality: Quality = Quality.STANDARD
    approximate: bool = False
    num_inference_steps: int
    guidance_scale: float
    seed: int
    last_frame: bool = False
    keyframes: tuple[int, ...] = ()

    @property
    def seconds(self) -> float:
        """Return the clip's length, to the millisecond."""
        return round(self.num_frames / self.fps, 3)

    @property
    def given(self) -> GivenImages:
        """Return which images the job has beside its first."""
        return GivenImages(**{name: getattr(self, name) for name in GIVEN})

    @property
    def needs(self) -> tuple[str, ...]:
        """Return what a worker must honour to render this as it was asked for."""
        wanted = {
            Honours.FOCUS: self.focus != MIDDLE,
            Honours.BLUR: self.fit is Fit.BLUR,
            **{name: bool(getattr(self, name)) for name in GIVEN},
        }
        return tuple(name for name, is_needed in wanted.items() if is_needed)


ASPECTS: Final = ((1, 1), (4, 3), (3, 2), (16, 9), (3, 4), (2, 3), (9, 16))


def resolve_parameters(
    spec: EngineSpec,
    asked: RequestedParameters,
    *,
    image_width: int,
    image_height: int,
    seed: int,
    given: GivenImages | None = None,
) -> RenderParameters:
    """Fix every value the client left open, or say which one is out of the engine's range.

    Args:
        seed: used when the client asked for none.
        given: the images that the client gives beside the first.

    Raises:
        InvalidRequest: a value is outside the engine's limits; `param` names it.
    """
    _check_prompt(spec, asked.prompt)
    quality, recipe = _quality(spec, asked.quality)
    fps = _given(asked.fps, spec.defaults.fps)
    _check_span(spec, "fps", fps)
    chosen = {
        "num_frames": _length(spec, asked, fps),
        "num_inference_steps": _given(asked.num_inference_steps, recipe.num_inference_steps),
    }
    guidance_scale = _given(asked.guidance_scale, spec.defaults.guidance_scale)
    for name, value in {**chosen, "guidance_scale": guidance_scale}.items():
        _check_span(spec, name, value)
    _check_fit(spec, asked.fit)
    resolution, (width, height) = _size(spec, asked, image_width, image_height)
    given = given or GivenImages()
    return RenderParameters(
        prompt=asked.prompt,
        negative_prompt=asked.negative_prompt,
        resolution=resolution,
        width=width,
        height=height,
        fit=asked.fit,
        focus=asked.focus if asked.focus and Honours.FOCUS in spec.honours else MIDDLE,
        fps=fps,
        quality=quality,
        approximate=recipe.approximate,
        guidance_scale=guidance_scale,
        seed=_given(asked.seed, seed),
        keyframes=given.settled(spec, chosen["num_frames"]),
        **dict.fromkeys(given.single, True),
        **chosen,
    )


def _check_prompt(spec: EngineSpec, prompt: str) -> None:
    if spec.prompt_required and not prompt.strip():
        raise InvalidRequest(
            f"{spec.name} needs a prompt: one sentence that says what moves", param="prompt"
        )


def _given(asked: T | None, default: T) -> T:
    return default if asked is None else asked


def buckets(spec: EngineSpec, resolution: Resolution) -> tuple[tuple[int, int], ...]:
    """Return the (width, height) shapes an engine with `Shape.BUCKETS` renders at."""
    if spec.sizes:
        return spec.sizes
    short = resolution.short_side
    return tuple(
        (_snap(short * w / min(w, h), spec.multiple), _snap(short * h / min(w, h), spec.multiple))
        for w, h in ASPECTS
    )


def _length(spec: EngineSpec, asked: RequestedParameters, fps: int) -> int:
    """Return the clip's length in frames; `seconds` becomes what the engine makes.

    Raises:
        InvalidRequest: the client said both and they are not the same.
    """
    if asked.seconds is None:
        return spec.defaults.num_frames if asked.num_frames is None else asked.num_frames
    found = spec.num_frames.nearest(asked.seconds * fps)
    if asked.num_frames not in (None, found):
        raise InvalidRequest(
            f"num_frames {asked.num_frames} at {fps} fps is {asked.num_frames / fps:g} s, and"
            f" seconds says {asked.seconds:g}, which is {found} frames; send one of the two",
            param="seconds",
        )
    return found


def _check_fit(spec: EngineSpec, fit: Fit) -> None:
    if fit is Fit.BLUR and Honours.BLUR not in spec.honours:
        raise InvalidRequest(
            f"{spec.name} cannot fit an image by blur; it takes crop or pad", param="fit"
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
            f"{name} {value:g} is out of range for {spec.name}; it takes {span}",
            param=name,
        )


def _size(
    spec: EngineSpec, asked: RequestedParameters, image_width: int, image_height: int
) -> tuple[Resolution | None, tuple[int, int]]:
    if asked.width is not None or asked.height is not None:
        size = _explicit_size(spec, asked, image_width / image_height)
        _check_made(spec, size)
        return None, size
    resolution = asked.resolution or spec.defaults.resolution
    if spec.shape is Shape.BUCKETS:
        aspect = math.log(image_width / image_height)
        size = min(buckets(spec, resolution), key=lambda s: abs(math.log(s[0] / s[1]) - aspect))
        if spec.sizes:
            return None, size
    else:
        scale = resolution.short_side / min(image_width, image_height)
        size = (
            _snap(image_width * scale, spec.multiple),
            _snap(image_height * scale, spec.multiple),
        )
    if max(size) > spec.max_side and asked.resolution is None:
        # A panorama: as long a clip as there is, of its middle or, with `fit`, of all of it.
        longest = spec.max_side - spec.max_side % spec.multiple
        size = (min(size[0], longest), min(size[1], longest))
    if max(size) > spec.max_side:
        raise InvalidRequest(
            f"this image is {image_width} x {image_height}; at {resolution} its clip would be"
            f" {size[0]} x {size[1]}, and {spec.name} goes up to {spec.max_side} on a side:"
            " crop the image, or ask for a lower resolution",
            param="resolution",
        )
    return resolution, size


def _check_made(spec: EngineSpec, size: tuple[int, int]) -> None:
    if spec.sizes and size not in spec.sizes:
        known = ", ".join(f"{width} x {height}" for width, height in spec.sizes)
        raise InvalidRequest(
            f"{spec.name} makes no clip of {size[0]} x {size[1]}; it makes {known}, and without"
            " width and height it takes the one nearest to the image's shape",
            param="width",
        )


def _explicit_size(spec: EngineSpec, asked: RequestedParameters, aspect: float) -> tuple[int, int]:
    """Return the sides asked for; a missing one follows the image's aspect."""
    sides: dict[str, int] = {}
    for name, given, derived in (
        ("width", asked.width, (asked.height or 0) * aspect),
        ("height", asked.height, (asked.width or 0) / aspect),
    ):
        side = _snap(derived, spec.multiple) if given is None else given
        if not MIN_SIDE <= side <= spec.max_side:
            raise InvalidRequest(
                f"{name} {side} is out of range for {spec.name}; it takes {MIN_SIDE} to"
                f" {spec.max_side}",
                param=name,
            )
        if side % spec.multiple:
            below = side - side % spec.multiple
            raise InvalidRequest(
                f"{name} {side} is not a multiple of {spec.multiple};"
                f" try {max(below, spec.multiple)} or {below + spec.multiple}",
                param=name,
            )
        sides[name] = side
    return sides["width"], sides["height"]


def _snap(side: float, multiple: int) -> int:
    return max(multiple, round(side / multiple) * multiple)
