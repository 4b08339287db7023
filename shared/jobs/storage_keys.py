"""The keys under which a job's files and a client's uploads are stored."""

from typing import Final
from uuid import UUID

INPUTS: Final = "inputs/"
UPLOADS: Final = "uploads/"
FIRST: Final = "image"
"""The name of the input that every job has; its key has no name, as before there were other
inputs."""


def input_key(job_id: UUID, name: str = FIRST) -> str:
    """Return the key of a job's input; one job's keys follow each other in the order of keys."""
    return f"{INPUTS}{job_id.hex}.png" if name == FIRST else f"{INPUTS}{job_id.hex}.{name}.png"


def input_id(key: str) -> UUID | None:
    """Return the job that an input's key belongs to, or None if the key is not one of ours."""
    digits, *middle = key.removeprefix(INPUTS).removesuffix(".png").split(".")
    try:
        job_id = UUID(hex=digits)
    except ValueError:
        return None
    return job_id if key == input_key(job_id, *middle[:1]) else None


def upload_key(upload_id: UUID) -> str:
    return f"{UPLOADS}{upload_id.hex}"


def output_prefix(job_id: UUID) -> str:
    return f"videos/{job_id.hex}/"


def output_key(job_id: UUID, attempt: int, suffix: str) -> str:
    """Return the key of one attempt's file; the attempt in it is the fence in the storage."""
    return f"{output_prefix(job_id)}{attempt}{suffix}"
