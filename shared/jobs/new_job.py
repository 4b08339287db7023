"""The values that a submit writes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from shared.engines.parameters import RenderParameters
from shared.jobs import fairness
from shared.jobs.inputs import Input
from shared.jobs.job import Priority


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """Everything that a submit writes; its inputs are stored under their keys already.

    The `image_…` fields are those of the first input, which polls show. `more_inputs` has the
    inputs beside the image, `needs` what a worker must honour. `gpu_bytes` is the GPU memory that
    the clip needs: a worker with less does not claim it. `price_micros` is a paid provider's price
    for it, in millionths of a dollar. `webhook_headers` are sealed. `expected_seconds` is the
    estimate of its end that its client could have asked for.
    """

    id: UUID
    owner_id: UUID
    engine: str
    engine_revision: str
    parameters: RenderParameters
    image_sha256: str
    image_width: int
    image_height: int
    source: str
    retain: timedelta
    more_inputs: Sequence[Input] = ()
    needs: Sequence[str] = ()
    gpu_bytes: int | None = None
    price_micros: int | None = None
    outputs: Sequence[str] = ()
    priority: Priority = Priority.NORMAL
    request_id: str | None = None
    idempotency_key: str | None = None
    idempotency_fingerprint: str | None = None
    webhook_url: str | None = None
    webhook_event_types: Sequence[str] = ()
    webhook_headers: str | None = None
    metadata: Mapping[str, str] | None = None
    warnings: Sequence[str] = ()
    queue_ttl: timedelta | None = None
    parent_id: UUID | None = None
    expected_seconds: float | None = None
    batch_id: UUID | None = None
    batch_position: int | None = None

    @property
    def clip_ms(self) -> int:
        """What the clip takes of a key's daily limit, as `usage.CLIP_MS` computes from the row."""
        return -(-self.parameters.num_frames * 1000 // self.parameters.fps)

    @property
    def inputs(self) -> tuple[Input, ...]:
        first = Input.first(
            self.id, sha256=self.image_sha256, width=self.image_width, height=self.image_height
        )
        return (first, *self.more_inputs)

    def values(self, max_queued: int) -> dict[str, Any]:
        """Return the values that `sql.SUBMIT` binds, for an owner with these limits."""
        return {
            **vars(self),
            "parameters": self.parameters.model_dump_json(),
            "outputs": list(self.outputs),
            "needs": list(self.needs),
            "webhook_event_types": list(self.webhook_event_types) or None,
            "metadata": json.dumps(dict(self.metadata or {})),
            "warnings": json.dumps(list(self.warnings)),
            "retain_seconds": int(self.retain.total_seconds()),
            "bonus": fairness.BONUS[self.priority],
            "share": fairness.SHARE,
            "max_queued": max_queued,
            "clip_ms": self.clip_ms,
        }
