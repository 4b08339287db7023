"""The keys under which a job's files are stored."""

from typing import Final
from uuid import UUID

INPUTS: Final = "inputs/"


def input_key(job_id: UUID) -> str:
    return f"{INPUTS}{job_id.hex}.png"


def input_id(key: str) -> UUID | None:
    """Return the job an input's key belongs to, or None where the key is not one of ours."""
    digits = key.removeprefix(INPUTS).removesuffix(".png")
    try:
        return UUID(hex=digits) if input_key(UUID(hex=digits)) == key else None
    except ValueError:
        return None


def output_prefix(job_id: UUID) -> str:
    return f"videos/{job_id.hex}/"


def output_key(job_id: UUID, attempt: int, suffix: str) -> str:
    """Return the key of one attempt's file; the attempt in it is the fence in storage."""
    return f"{output_prefix(job_id)}{attempt}{suffix}"
