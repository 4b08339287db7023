"""The answers of an installation about itself: models, queues, keys."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Model:
    """An engine that renders; `parameters` is the JSON Schema of the fields of a submit."""

    id: str
    title: str
    description: str
    ai_generated: bool
    uses_prompt: bool
    needs_gpu: bool
    workers: int
    licence: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Key:
    """An API key without its secret."""

    id: str
    name: str
    prefix: str
    is_admin: bool
    created_at: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class NewKey(Key):
    """A key that was just made or rotated; `key` is its secret, shown only once."""

    key: str = field(default="", repr=False)
