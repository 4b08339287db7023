"""A model's parameters as JSON Schema, from which a page can draw its form."""

from typing import Any

from shared.catalogue import EngineSpec, Quality
from shared.wire import CreateJob


def parameters_schema(spec: EngineSpec) -> dict[str, Any]:
    """Return the schema of a create's fields, narrowed to the engine's limits and defaults."""
    schema = CreateJob.model_json_schema()
    properties: dict[str, Any] = schema["properties"]
    properties["model"] = {"const": spec.name}
    for name in ("num_frames", "fps", "num_inference_steps"):
        span = getattr(spec, name)
        properties[name] = {
            "type": "integer",
            "minimum": int(span.low),
            "maximum": int(span.high),
            "default": getattr(spec.defaults, name),
        }
    properties["guidance_scale"] = {
        "type": "number",
        "minimum": spec.guidance_scale.low,
        "maximum": spec.guidance_scale.high,
        "default": spec.defaults.guidance_scale,
    }
    properties["resolution"] = {
        "$ref": "#/$defs/Resolution",
        "default": spec.defaults.resolution,
    }
    taken = [each for each in Quality if each in {Quality.STANDARD, *spec.qualities}]
    properties["quality"] = {
        "type": "string",
        "enum": taken,
        "default": Quality.STANDARD,
        "description": properties["quality"]["description"],
    }
    for name in ("width", "height"):
        properties[name] = {
            "type": "integer",
            "minimum": 64,
            "maximum": spec.max_side,
            "multipleOf": spec.multiple,
        }
    for name in _ignored(spec):
        properties[name]["description"] = f"{spec.name} does not use it"
        properties[name]["x-ignored"] = True
    schema["required"] = ["prompt"] if spec.prompt_required else []
    schema["title"] = spec.title
    return schema


def _ignored(spec: EngineSpec) -> list[str]:
    used = {
        "prompt": spec.uses_prompt,
        "negative_prompt": spec.uses_negative_prompt,
        "quality": spec.uses_steps,
        "num_inference_steps": spec.uses_steps,
        "guidance_scale": spec.uses_guidance,
    }
    return [name for name, is_used in used.items() if not is_used]
