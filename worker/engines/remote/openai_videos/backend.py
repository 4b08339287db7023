"""One server that speaks `/v1/videos`, behind the port of servers that render."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import structlog
from pydantic import SecretStr

from shared.outbound.client import REDIRECTS, Answer, Outbound
from shared.outbound.errors import (
    AnswerTooLarge,
    OutboundFailed,
    OutboundRefused,
    OutboundTimedOut,
    UnusableAnswer,
)
from worker.engines.base import RenderRequest
from worker.engines.remote.answers import one_line, retry_after, without
from worker.engines.remote.errors import Away, ResultGone, ResultUnusable, TaskVanished
from worker.engines.remote.openai_videos.address import Address
from worker.engines.remote.openai_videos.messages import (
    failure,
    form,
    look_at,
    read,
    refused_create,
)
from worker.engines.remote.provider import Created, Found, Look, OnBytes, TaskState

FAILS: Final = 3
"""vLLM-Omni answers a poll of a failed task with an error's status. If it does so this often in a
row, the task has failed, and not only the server for a moment."""

_MILLISECONDS: Final = re.compile(r"[0-9]{1,9}")
_AWAY: Final = frozenset({408, 425, 429, 502, 503, 504})
_GONE: Final = frozenset({401, 403, 404, 410})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class BackendLimits:
    """How long such a server has for each answer, and how much of an answer is read."""

    ask: timedelta = timedelta(seconds=60)
    look: timedelta = timedelta(seconds=30)
    download: timedelta = timedelta(seconds=240)
    answer_bytes: int = 1 << 20
    clip_bytes: int = 256 << 20
    fail_pause_seconds: float = 1.0
    """The pause between two polls of a task that is reported as failed."""


SHIPPED: Final = BackendLimits()


class Backend:
    """A server of the operator: asked without redirects, only at its host and port.

    A link in its answer may lead only where a client's link may lead.
    """

    is_paid = False

    def __init__(
        self,
        address: Address,
        key: SecretStr | None,
        links: Outbound,
        limits: BackendLimits = SHIPPED,
    ) -> None:
        host, port = address.server
        self.name = f"{host}:{port}"
        self._address = address
        self._key = key
        self._links = links
        self._limits = limits
        self._ask, self._look, self._load = (
            Outbound((), deadline=deadline, max_bytes=most, only=address.server)
            for deadline, most in (
                (limits.ask, limits.answer_bytes),
                (limits.look, limits.answer_bytes),
                (limits.download, limits.clip_bytes),
            )
        )

    def create(self, request: RenderRequest, key: str) -> Created:
        content_type, body = form(request, self._address.model)
        headers = {"Content-Type": content_type, "Idempotency-Key": key}
        answer = _sent(self._ask, "POST", self._url(), self._headers() | headers, body)
        said = self._read(answer)
        if not 200 <= answer.status_code < 300:
            raise refused_create(answer.status_code, said, retry_after(answer))
        task = said.get("id")
        if not isinstance(task, str) or not 0 < len(task) <= 500 or not task.isprintable():
            raise Away("it accepted the task but did not say its id")
        return Created(task)

    def find(self, request: RenderRequest, key: str) -> Found:
        """Return no answer, because a list of videos does not tell whose create made which.

        A server that knows Idempotency-Key gives the same video to the repeated create.
        """
        return Found()

    def look(self, task: str) -> Look:
        for _ in range(FAILS):
            answer = _sent(self._look, "GET", self._url(task), self._headers())
            said = self._read(answer)
            if answer.status_code == 404:
                raise TaskVanished("the server that rendered it no longer knows it")
            if answer.status_code in (401, 403):
                raise refused_create(answer.status_code, said, None)
            if answer.status_code == 200 or said.get("status") == "failed":
                return look_at(said, _again_seconds(answer))
            if answer.status_code in _AWAY or not said:
                break
            time.sleep(self._limits.fail_pause_seconds)
        else:
            return Look(TaskState.FAILED, error=failure(said, answer.status_code))
        raise Away(
            f"it answered {answer.status_code} to a poll", retry_after_seconds=retry_after(answer)
        )

    def cancel(self, task: str) -> bool | None:
        """Delete the video, which ends the render if the server can end it.

        sglang only forgets it, and shows that by a status in place of `deleted`.
        """
        answer = _sent(self._look, "DELETE", self._url(task), self._headers())
        if answer.status_code == 404:
            return False
        if answer.status_code in _AWAY:
            raise Away(f"it answered {answer.status_code} to a cancel")
        was_ended = 200 <= answer.status_code < 300 and self._read(answer).get("deleted") is True
        return False if was_ended else None

    def download(self, task: str, look: Look, into: Path, on_bytes: OnBytes) -> None:
        headers = self._headers() | {"Accept": "video/mp4, application/octet-stream"}
        url = f"{self._url(task)}/content"
        answer = self._loaded(self._load, url, into, headers, on_bytes, redirects=0)
        if answer.status_code == 200:
            return _check_type(answer)
        link = answer.headers.get("location") if answer.status_code in REDIRECTS else look.link
        if link is not None:
            return self._follow(link, into, on_bytes)
        if answer.status_code == 404:
            raise TaskVanished("the server that rendered it no longer has the clip")
        if answer.status_code >= 500 or answer.status_code in _AWAY:
            raise Away(f"it answered {answer.status_code} to a download")
        raise ResultUnusable(f"the clip could not be fetched: status {answer.status_code}")

    def _follow(self, link: str, into: Path, on_bytes: OnBytes) -> None:
        """Download the clip from the address that the server gives, without its key."""
        link = without(link, self._secrets)  # Otherwise the link's target would learn the secret.
        try:
            answer = self._loaded(self._links, link, into, {}, on_bytes)
        except OutboundRefused as error:
            _log.error("remote_link_refused", place=self.name, reason=error.message)
            raise ResultUnusable(
                "the clip's link leads to an address that clients may not reach; the operator can"
                " allow its network in STILLREEL_OUTBOUND_ALLOW"
            ) from error
        if answer.status_code in _GONE:
            raise ResultGone(f"the clip's link has expired: status {answer.status_code}")
        if answer.status_code in _AWAY or answer.status_code >= 500:
            raise Away(f"the clip's link answered {answer.status_code}")
        if answer.status_code != 200:
            raise ResultUnusable(f"the clip's link answered {answer.status_code}")
        _check_type(answer)

    def _read(self, answer: Answer) -> Mapping[str, Any]:
        return read(answer.excerpt, secrets=self._secrets)

    @property
    def _secrets(self) -> tuple[str, ...]:
        return () if self._key is None else (self._key.get_secret_value(),)

    def _loaded(
        self,
        outbound: Outbound,
        url: str,
        into: Path,
        headers: Mapping[str, str],
        on_bytes: OnBytes,
        **options: Any,
    ) -> Answer:
        try:
            with into.open("wb") as file:
                return outbound.download(url, file, headers=headers, on_bytes=on_bytes, **options)
        except AnswerTooLarge as error:
            most = self._limits.clip_bytes >> 20
            raise ResultUnusable(f"the clip has more than {most} MiB") from error
        except UnusableAnswer as error:
            raise ResultUnusable(error.message) from error
        except OutboundTimedOut as error:
            if error.is_sent:
                what = f"the clip did not arrive completely: {error.message}"
                raise ResultUnusable(what) from error
            raise Away(error.message) from error
        except OutboundFailed as error:
            raise Away(error.message) from error

    def _url(self, task: str | None = None) -> str:
        videos = f"{self._address.base}/videos"
        return videos if task is None else f"{videos}/{quote(task, safe='')}"

    def _headers(self) -> dict[str, str]:
        if self._key is None:
            return {"Accept": "application/json"}
        bearer = f"Bearer {self._key.get_secret_value()}"
        return {"Accept": "application/json", "Authorization": bearer}


def _sent(
    outbound: Outbound,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None = None,
) -> Answer:
    try:
        return outbound.send(method, url, headers=headers, body=body)
    except OutboundRefused as error:
        raise Away(error.message, is_refusal=True) from error
    except OutboundFailed as error:
        raise Away(error.message, is_refusal=not error.is_sent) from error


def _check_type(answer: Answer) -> None:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and not kind.startswith("video/") and kind != "application/octet-stream":
        raise ResultUnusable(f"the server sent {one_line(kind[:60])} in place of a clip")


def _again_seconds(answer: Answer) -> float | None:
    """Return when the server wants to be asked again, within limits."""
    text = answer.headers.get("openai-poll-after-ms", "")
    seconds = int(text) / 1000 if _MILLISECONDS.fullmatch(text) else retry_after(answer)
    return None if seconds is None else min(max(float(seconds), 0.2), 30.0)
