"""Warnings that come with an accepted job: what will be ignored, and what will not go well."""

import unicodedata
from typing import Final

from shared.engines.parameters import RenderParameters, RequestedParameters
from shared.engines.registry import OfferedEngine
from shared.engines.spec import EngineSpec, Fit, Honours, Shape

HARDLY_LONGER: Final = 1.01
"""Sides are rounded to what an engine renders."""


def warnings_for(
    offer: OfferedEngine, fields: RequestedParameters, parameters: RenderParameters
) -> tuple[str, ...]:
    """Return a sentence for everything a client should know before the clip is there."""
    spec = offer.spec
    warnings = [
        *_ignored(spec, fields),
        *_unguided(spec, parameters),
        *_language(spec, fields),
    ]
    if fields.seconds is not None and fields.seconds != parameters.seconds:
        warnings.append(
            f"seconds {fields.seconds:g} became {parameters.seconds:g}: {spec.name} makes"
            f" {parameters.num_frames} frames at {parameters.fps} fps"
        )
    if offer.workers == 0:
        warnings.append(f"no worker serves {spec.name} now; the job waits until one starts")
    return tuple(warnings)


def shape_warnings(
    spec: EngineSpec, parameters: RenderParameters, *, image_width: int, image_height: int
) -> tuple[str, ...]:
    """Return what to say of a panorama that is longer than a clip can be."""
    is_kept = spec.shape is Shape.KEEP and parameters.resolution is not None
    if not is_kept or parameters.fit is not Fit.CROP:
        return ()
    clip, picture = (
        max(width, height) / min(width, height)
        for width, height in (
            (parameters.width, parameters.height),
            (image_width, image_height),
        )
    )
    if max(parameters.width, parameters.height) + spec.multiple <= spec.max_side:
        return ()
    if picture <= clip * HARDLY_LONGER:
        return ()
    return (
        f"the picture is {image_width} x {image_height}, longer than a clip can be; the clip shows"
        f" its middle, {parameters.width} x {parameters.height}: fit=pad shows all of it, a"
        " cropped picture the part you choose",
    )


def unused(spec: EngineSpec) -> list[str]:
    """Return which fields of a create an engine takes no notice of."""
    uses = {
        "prompt": spec.uses_prompt,
        "negative_prompt": spec.uses_negative_prompt,
        "quality": spec.uses_steps,
        "num_inference_steps": spec.uses_steps,
        "guidance_scale": spec.uses_guidance,
        "focus": Honours.FOCUS in spec.honours,
    }
    return [name for name, is_used in uses.items() if not is_used]


def _ignored(spec: EngineSpec, fields: RequestedParameters) -> list[str]:
    reasons = dict.fromkeys(unused(spec), f"{spec.name} does not use it")
    if fields.width is not None or fields.height is not None:
        reasons["resolution"] = "width and height decide the size"
    return [
        f"{name} was ignored: {reason}"
        for name, reason in reasons.items()
        if getattr(fields, name) not in (None, "")
    ]


def _unguided(spec: EngineSpec, parameters: RenderParameters) -> list[str]:
    """Warn of a negative prompt that guidance alone would have brought in."""
    is_used = spec.uses_negative_prompt and spec.uses_guidance and parameters.negative_prompt
    if not is_used or parameters.guidance_scale > 1:
        return []
    return [
        f"negative_prompt was ignored: guidance_scale {parameters.guidance_scale:g} steers away"
        " from nothing; it does above 1"
    ]


def _language(spec: EngineSpec, fields: RequestedParameters) -> list[str]:
    """Warn of a script the text encoder cannot read; a camera move reads its own words."""
    is_english_only = spec.uses_prompt and spec.ai_generated and spec.prompt_languages == ("en",)
    if is_english_only and not (_is_latin(fields.prompt) and _is_latin(fields.negative_prompt)):
        return [f"{spec.name} was taught English only; other scripts mean nothing to it"]
    return []


def _is_latin(text: str) -> bool:
    return all("LATIN" in unicodedata.name(letter, "") for letter in text if letter.isalpha())
