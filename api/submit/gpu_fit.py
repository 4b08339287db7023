"""Computes, without I/O, whether a clip fits any card of the fleet, and the largest that would."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from shared.engines.parameters import RenderParameters, RequestedParameters, resolve_parameters
from shared.engines.spec import EngineSpec, Resolution
from shared.errors import TooLargeForGpu


class Size(NamedTuple):
    """A clip's size in pixels, and the fields that ask for it."""

    words: str
    width: int
    height: int


def admit(
    spec: EngineSpec,
    asked: RequestedParameters,
    parameters: RenderParameters,
    *,
    image_width: int,
    image_height: int,
    card_bytes: int | None,
) -> int | None:
    """Return the bytes of a card that a clip needs; None if the engine does not say.

    Args:
        asked: the request that `parameters` were resolved from.
        card_bytes: the largest card that serves the engine now. None if no worker is alive or one
            does not know its memory. Then every clip is accepted, because a job may wait for a
            worker that is starting, and a render on a too small card fails with a clear error.

    Raises:
        TooLargeForGpu: not even the most frugal memory mode fits that card; the error says which
            clip would.
    """
    if spec.footprint is None:
        return None
    width, height, frames = parameters.width, parameters.height, parameters.num_frames
    needed = spec.footprint.least_bytes(width=width, height=height, num_frames=frames)
    if card_bytes is None or needed <= card_bytes:
        return needed
    sizes = _sizes(spec, asked, parameters, image_width, image_height)
    fits = list(_largest(spec, sizes, frames, card_bytes))
    advice = f"try {' or '.join(fits)}" if fits else "and no clip of this model fits there"
    raise TooLargeForGpu(
        f"a clip of {width} x {height} with {frames} frames needs {_gib(needed)} of GPU memory,"
        f" and the largest card at work for {spec.name} has {_gib(card_bytes)}; {advice}",
        param="width" if parameters.resolution is None else "resolution",
    )


def most_frames(spec: EngineSpec, *, width: int, height: int, card_bytes: int | None) -> int:
    """Return how many frames of this size a clip may have on such a card, 0 if none fits."""
    if max(width, height) > spec.max_side:
        return 0
    most, least = int(spec.num_frames.high), int(spec.num_frames.low)
    if spec.footprint is None or card_bytes is None:
        return most
    footprint = spec.footprint
    for frames in range(most, least - 1, -1):
        if footprint.least_bytes(width=width, height=height, num_frames=frames) <= card_bytes:
            return frames
    return 0


def _largest(
    spec: EngineSpec, sizes: Iterable[Size], num_frames: int, card_bytes: int
) -> Iterator[str]:
    """Yield the largest size that fits with fewer frames, and the largest with all of them."""
    has_any = False
    for size in sizes:
        most = most_frames(spec, width=size.width, height=size.height, card_bytes=card_bytes)
        if most >= num_frames:
            yield size.words
            return
        if most and not has_any:
            has_any = True
            yield f"{size.words} with num_frames {most}" if size.words else f"num_frames {most}"


def _sizes(
    spec: EngineSpec,
    asked: RequestedParameters,
    parameters: RenderParameters,
    image_width: int,
    image_height: int,
) -> Iterator[Size]:
    """Yield the clip's own size and then the sizes below it, the largest first."""
    yield Size("", parameters.width, parameters.height)
    if parameters.resolution is None:
        yield from _scaled_down(spec, parameters)
        return
    for resolution in reversed(Resolution):
        if resolution.short_side >= parameters.resolution.short_side:
            continue
        lower = resolve_parameters(
            spec,
            asked.model_copy(update={"resolution": resolution}),
            image_width=image_width,
            image_height=image_height,
            seed=parameters.seed,
        )
        yield Size(f"resolution {resolution}", lower.width, lower.height)


def _scaled_down(spec: EngineSpec, parameters: RenderParameters) -> Iterator[Size]:
    """Yield smaller clips of about the same aspect, a step of the short side apart."""
    short_side = min(parameters.width, parameters.height)
    for short in range(short_side - spec.multiple, 63, -spec.multiple):
        width, height = (
            round(side * short / short_side / spec.multiple) * spec.multiple
            for side in (parameters.width, parameters.height)
        )
        yield Size(f"width {width} and height {height}", width, height)


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
