"""Warnings that come with an accepted job: fields that are ignored, and likely problems."""

import unicodedata
from typing import Final

from shared.engines.parameters import RenderParameters, RequestedParameters
from shared.engines.registry import OfferedEngine
from shared.engines.spec import EngineSpec, Fit, Honours, Shape
from shared.engines.weights import WeightsState, WeightsView
from shared.jobs.limits import dollars

HARDLY_LONGER: Final = 1.01
"""Sides are rounded to what an engine renders."""

LATIN: Final = "LATIN"
MANY: Final = "mul"
"""ISO 639's code for more languages than a list would have."""

NAMES: Final = {"CJK": "Chinese", "HANGUL": "Korean"}
LANGUAGES: Final = {"en": "English", "zh": "Chinese", "ja": "Japanese", "ko": "Korean"}
SCRIPTS: Final = {
    # The first word of their letters' names in Unicode. Latin is not here, because its letters do
    # not tell the language.
    "zh": ("CJK", "BOPOMOFO"),
    "ja": ("CJK", "HIRAGANA", "KATAKANA", "HALFWIDTH", "KATAKANA-HIRAGANA"),
    "ko": ("HANGUL", "CJK"),
    "ru": ("CYRILLIC",),
    "el": ("GREEK",),
    "ar": ("ARABIC",),
    "he": ("HEBREW",),
    "hi": ("DEVANAGARI",),
    "th": ("THAI",),
}


def warnings_for(
    offer: OfferedEngine, fields: RequestedParameters, parameters: RenderParameters
) -> tuple[str, ...]:
    """Return a sentence for everything that a client should know before the clip is ready."""
    spec = offer.spec
    warnings = [
        *_ignored(spec, fields),
        *_unguided(spec, parameters),
        *_language(spec, fields),
        *_sent_out(spec, parameters),
    ]
    if fields.seconds is not None and fields.seconds != parameters.seconds:
        warnings.append(
            f"seconds {fields.seconds:g} became {parameters.seconds:g}: {spec.name} makes"
            f" {parameters.num_frames} frames at {parameters.fps} fps"
        )
    if offer.workers == 0:
        warnings.append(f"no worker serves {spec.name} now; the job waits until one starts")
    return (*warnings, *_weights(spec.name, offer.weights))


def _weights(name: str, weights: WeightsView | None) -> tuple[str, ...]:
    if weights is None or weights.state is WeightsState.READY:
        return ()
    if weights.state is WeightsState.DOWNLOADING:
        percent = int(100 * weights.fraction)
        return (f"the weights of {name} are being downloaded, {percent} % so far; the job waits",)
    return (f"no worker has all the weights of {name}: {weights.message or 'none says why'}",)


def shape_warnings(
    spec: EngineSpec, parameters: RenderParameters, *, image_width: int, image_height: int
) -> tuple[str, ...]:
    """Return the warning for a panorama that is longer than a clip can be."""
    is_kept = spec.shape is Shape.KEEP and parameters.resolution is not None
    if not is_kept or parameters.fit is not Fit.CROP:
        return ()
    clip, image = (
        max(width, height) / min(width, height)
        for width, height in (
            (parameters.width, parameters.height),
            (image_width, image_height),
        )
    )
    if max(parameters.width, parameters.height) + spec.multiple <= spec.max_side:
        return ()
    if image <= clip * HARDLY_LONGER:
        return ()
    return (
        f"the image is {image_width} x {image_height}, longer than a clip can be; the clip shows"
        f" its middle, {parameters.width} x {parameters.height}: fit=pad shows all of it, a"
        " cropped image the part you choose",
    )


def unused(spec: EngineSpec) -> list[str]:
    """Return the fields of a create that an engine ignores."""
    uses = {
        "prompt": spec.uses_prompt,
        "negative_prompt": spec.uses_negative_prompt,
        "quality": spec.uses_steps,
        "num_inference_steps": spec.uses_steps,
        "guidance_scale": spec.uses_guidance,
        "focus": Honours.FOCUS in spec.honours,
        "resolution": not spec.sizes,
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


def _sent_out(spec: EngineSpec, parameters: RenderParameters) -> list[str]:
    """Say who else gets the image, and what that costs."""
    if spec.hosted is None:
        return []
    price = dollars(spec.hosted.price_micros(parameters.seconds))
    return [
        f"the image and the prompt are sent to {spec.hosted.provider}, which makes the clip with"
        f" {spec.hosted.model} and takes about {price} for it"
    ]


def _unguided(spec: EngineSpec, parameters: RenderParameters) -> list[str]:
    """Warn about a negative prompt that has no effect without guidance."""
    is_used = spec.uses_negative_prompt and spec.uses_guidance and parameters.negative_prompt
    if not is_used or parameters.guidance_scale > 1:
        return []
    return [
        f"negative_prompt was ignored: guidance_scale {parameters.guidance_scale:g} gives it no"
        " effect; it needs one above 1"
    ]


def _language(spec: EngineSpec, fields: RequestedParameters) -> list[str]:
    """Warn of a script that the text encoder did not learn; a camera move reads its own words."""
    is_any = not spec.ai_generated or MANY in spec.prompt_languages
    if not spec.uses_prompt or is_any:
        return []
    known = {script for each in spec.prompt_languages for script in SCRIPTS.get(each, ())}
    written = {*_scripts(fields.prompt), *_scripts(fields.negative_prompt)}
    if not (unknown := sorted(written - known - {LATIN})):
        return []
    taught = " and ".join(LANGUAGES.get(each, each) for each in spec.prompt_languages)
    scripts = " and ".join(NAMES.get(script, script.title()) for script in unknown)
    return [
        f"{spec.name} was taught {taught} only, and the {scripts} letters of the prompt mean"
        f" nothing to it: write it in {LANGUAGES.get(spec.prompt_languages[0], 'English')}"
    ]


def _scripts(text: str | None) -> set[str]:
    """Return the scripts of a text's letters, by the first word of their Unicode names."""
    names = (unicodedata.name(letter, "") for letter in text or "" if letter.isalpha())
    return {_script(name) for name in names if name}


def _script(name: str) -> str:
    if name.startswith(("FULLWIDTH LATIN", "MICRO SIGN", "OHM SIGN", "MODIFIER", "FEMININE")):
        return LATIN
    return name.partition(" ")[0]
