"""Engines as Replicate's clients see models and their versions."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from api.responses.model_schema import parameters_schema
from shared.engines.registry import OfferedEngine
from shared.jobs.prediction import OWNER, PREFIX, version_id


class VersionView(BaseModel):
    id: str
    created_at: datetime
    cog_version: Literal["stillreel"] = "stillreel"
    openapi_schema: dict[str, Any]


class ModelView(BaseModel):
    """A model; fields of Replicate that we do not have are null."""

    url: str
    owner: str
    name: str
    description: str
    visibility: Literal["public"] = "public"
    github_url: None = None
    paper_url: None = None
    license_url: str | None
    run_count: int = 0
    cover_image_url: None = None
    default_example: None = None
    latest_version: VersionView


class ModelPage(BaseModel):
    previous: None = None
    next: None = None
    results: list[ModelView]


class VersionPage(BaseModel):
    previous: None = None
    next: None = None
    results: list[VersionView]


def version_view(offer: OfferedEngine) -> VersionView:
    schemas = {"Input": _input(offer), "Output": {"type": "string", "format": "uri"}}
    return VersionView(
        id=version_id(offer.spec.name, offer.spec.revision),
        created_at=offer.updated_at,
        openapi_schema={"components": {"schemas": schemas}},
    )


def model_view(offer: OfferedEngine, *, base_url: str) -> ModelView:
    spec = offer.spec
    return ModelView(
        url=f"{base_url}{PREFIX}/models/{OWNER}/{spec.name}",
        owner=OWNER,
        name=spec.name,
        description=spec.description,
        license_url=spec.licence.url,
        latest_version=version_view(offer),
    )


def _input(offer: OfferedEngine) -> dict[str, Any]:
    schema = parameters_schema(offer.spec)
    image = {"type": "string", "format": "uri"}
    schema["properties"] = {"image": image, **schema["properties"]}
    schema["required"] = ["image", *schema["required"]]
    return schema
