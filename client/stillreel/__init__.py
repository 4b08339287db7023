"""Client of Stillreel: `Client().generate("photo.jpg", "slow push in").save("clip.mp4")`."""

from stillreel.async_client import AsyncClient, AsyncClip
from stillreel.client import Client, Clip
from stillreel.errors import (
    Conflict,
    ConnectionFailed,
    DownloadDamaged,
    Forbidden,
    InvalidRequest,
    JobCanceled,
    JobFailed,
    JobNotSucceeded,
    NotAuthenticated,
    NotFound,
    PhotoUnreadable,
    Refused,
    StillreelError,
    TooMany,
    Unavailable,
    UnexpectedAnswer,
    WaitTimedOut,
    WrongAddress,
)
from stillreel.installation import Key, Model, NewKey
from stillreel.job import Event, Job

__all__ = [
    "AsyncClient",
    "AsyncClip",
    "Client",
    "Clip",
    "Conflict",
    "ConnectionFailed",
    "DownloadDamaged",
    "Event",
    "Forbidden",
    "InvalidRequest",
    "Job",
    "JobCanceled",
    "JobFailed",
    "JobNotSucceeded",
    "Key",
    "Model",
    "NewKey",
    "NotAuthenticated",
    "NotFound",
    "PhotoUnreadable",
    "Refused",
    "StillreelError",
    "TooMany",
    "Unavailable",
    "UnexpectedAnswer",
    "WaitTimedOut",
    "WrongAddress",
]
