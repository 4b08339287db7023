"""Links to a job's files and to a batch's zip that need no key: signed, and valid for a time.

A link's `link` parameter is `{expires}.{epoch}.{signature}`: Unix seconds; the number of its
owner's links, which rotation and revocation of a key raise; and an HMAC-SHA256 over both, the job
and the variant. So a link opens one file, and does not show the owner. For a batch's zip, the
batch's id replaces the job's, with a variant that no job has.
"""

import base64
import hashlib
import hmac
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from shared.jobs.batch import Batch
from shared.jobs.job import Job, Variant, public_id

EXPIRED: Final = "this link has expired; ask for the job again, which brings a new one"
FORGED: Final = "this link is not valid for this file; ask for the job again, which brings one"

ZIP: Final = "batch.zip"
"""The variant of links to a batch's zip."""

SHARES: Final = 24
"""Ends of links are rounded up to a 24th of their life, an hour of a day. Until then everybody
gets the same link, so caches that store a file by its address find it."""

_LINK: Final = re.compile(r"([1-9][0-9]{0,11})\.(0|[1-9][0-9]{0,17})\.([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, kw_only=True)
class SignedLink:
    """A link whose signature is ours; its row says whether its owner's links still work.

    `id` is a job's, or a batch's where the variant is ZIP.
    """

    id: UUID
    variant: str
    expires: int
    epoch: int

    def has_expired(self, now: float) -> bool:
        return now >= self.expires


class Links:
    """Makes and reads links to files; the first key signs, and links of each key are accepted."""

    def __init__(self, keys: Sequence[bytes], *, lives: timedelta) -> None:
        self._keys = tuple(keys)
        self._seconds = int(lives.total_seconds())

    def expires(self, now: datetime) -> int:
        """Return the end of links that are made now, in Unix seconds."""
        share = max(1, self._seconds // SHARES)
        return math.ceil((now.timestamp() + self._seconds) / share) * share

    def path(self, job: Job, variant: Variant, *, now: datetime) -> str:
        """Return the address of a file of the job, without a host.

        Args:
            now: aware; all times within a share of its life give the same link.
        """
        if job.link_epoch is None:
            raise ValueError("the job was read without its owner's link_epoch")
        signed = self._sign(job.id, variant, job.link_epoch, now)
        return f"/v1/jobs/{public_id(job.id)}/content?variant={variant}&link={signed}"

    def zip_path(self, batch: Batch, *, now: datetime) -> str:
        """Return the address of the zip of a batch, without a host."""
        if batch.link_epoch is None:
            raise ValueError("the batch was read without its owner's link_epoch")
        signed = self._sign(batch.id, ZIP, batch.link_epoch, now)
        return f"/v1/batches/{batch.public_id}/content?link={signed}"

    def read(self, text: str, *, id: UUID, variant: str) -> SignedLink | None:
        """Return the link to this file in the parameter, or None if we did not make it."""
        match = _LINK.fullmatch(text)
        if match is None:
            return None
        link = SignedLink(id=id, variant=variant, expires=int(match[1]), epoch=int(match[2]))
        good = [hmac.compare_digest(match[3], _signature(key, link)) for key in self._keys]
        return link if any(good) else None

    def _sign(self, id: UUID, variant: str, epoch: int, now: datetime) -> str:
        link = SignedLink(id=id, variant=variant, expires=self.expires(now), epoch=epoch)
        return f"{link.expires}.{link.epoch}.{_signature(self._keys[0], link)}"


def _signature(key: bytes, link: SignedLink) -> str:
    signed = f"{link.id.hex}\n{link.variant}\n{link.expires}\n{link.epoch}"
    digest = hmac.digest(key, signed.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
