"""A model's parameters as JSON Schema, from which a page can build its form."""

from typing import Any

from api.openapi import MORE_IMAGES
from api.submit.warnings import unused
from shared.engines.spec import MIN_SIDE, EngineSpec, Fit, Honours, Quality
from shared.jobs.create import CreateJob
from shared.numbers import use_json_words


def parameters_schema(spec: EngineSpec) -> dict[str, Any]:
    """Return the schema of a create's fields, narrowed to the engine's limits and defaults."""
    schema = CreateJob.model_json_schema()
    properties: dict[str, Any] = schema["properties"]
    properties["model"] = {"const": spec.name}
    properties |= _numbers(spec) | _sides(spec)
    properties["resolution"] = {
        "$ref": "#/$defs/Resolution",
        "default": spec.defaults.resolution,
    }
    properties["quality"] = {
        "type": "string",
        "enum": [each for each in Quality if each in {Quality.STANDARD, *spec.qualities}],
        "default": Quality.STANDARD,
        "description": properties["quality"]["description"],
    }
    properties["fit"] = {
        "type": "string",
        "enum": [each for each in Fit if each is not Fit.BLUR or Honours.BLUR in spec.honours],
        "default": Fit.CROP,
    }
    properties |= {name: each for name, each in MORE_IMAGES.items() if name in spec.honours}
    for name in unused(spec):
        properties[name]["description"] = f"{spec.name} does not use it"
        properties[name]["x-ignored"] = True
    schema["required"] = ["prompt"] if spec.prompt_required else []
    schema["title"] = spec.title
    use_json_words(schema)
    return schema


def _numbers(spec: EngineSpec) -> dict[str, Any]:
    whole = {
        name: {
            "type": "integer",
            "minimum": int(getattr(spec, name).low),
            "maximum": int(getattr(spec, name).high),
            "default": getattr(spec.defaults, name),
        }
        for name in ("num_frames", "fps", "num_inference_steps")
    }
    step = spec.num_frames.step
    if step is not None:
        whole["num_frames"]["enum"] = [
            *range(int(spec.num_frames.low), int(spec.num_frames.high) + 1, step)
        ]
    guidance = {
        "type": "number",
        "minimum": spec.guidance_scale.low,
        "maximum": spec.guidance_scale.high,
        "default": spec.defaults.guidance_scale,
    }
    return {**whole, "guidance_scale": guidance}


def _sides(spec: EngineSpec) -> dict[str, Any]:
    side = {"type": "integer", "minimum": MIN_SIDE, "maximum": spec.max_side}
    return {name: {**side, "multipleOf": spec.multiple} for name in ("width", "height")}
