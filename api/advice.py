"""Warnings that come with an accepted job: what will be ignored, and what will not go well."""

import unicodedata

from shared.catalogue import EngineSpec
from shared.fleet import Offer
from shared.wire import CreateJob


def advise(offer: Offer, fields: CreateJob) -> tuple[str, ...]:
    """Return a sentence for everything a client should know before the clip is there."""
    spec = offer.spec
    warnings = [*_ignored(spec, fields), *_language(spec, fields)]
    if offer.workers == 0:
        warnings.append(f"no worker serves {spec.name} now; the job waits until one starts")
    return tuple(warnings)


def _ignored(spec: EngineSpec, fields: CreateJob) -> list[str]:
    given = {
        "prompt": (fields.prompt, spec.uses_prompt),
        "negative_prompt": (fields.negative_prompt, spec.uses_negative_prompt),
        "quality": (fields.quality, spec.uses_steps),
        "num_inference_steps": (fields.num_inference_steps, spec.uses_steps),
        "guidance_scale": (fields.guidance_scale, spec.uses_guidance),
        "resolution": (fields.resolution, fields.width is None and fields.height is None),
    }
    reasons = {"resolution": "width and height decide the size"}
    return [
        f"{name} was ignored: {reasons.get(name, f'{spec.name} does not use it')}"
        for name, (value, is_used) in given.items()
        if value not in (None, "") and not is_used
    ]


def _language(spec: EngineSpec, fields: CreateJob) -> list[str]:
    """Warn of a script the text encoder cannot read; a camera move reads its own words."""
    is_english_only = spec.uses_prompt and spec.ai_generated and spec.prompt_languages == ("en",)
    if is_english_only and not (_is_latin(fields.prompt) and _is_latin(fields.negative_prompt)):
        return [f"{spec.name} was taught English only; other scripts mean nothing to it"]
    return []


def _is_latin(text: str) -> bool:
    return all("LATIN" in unicodedata.name(letter, "") for letter in text if letter.isalpha())
