"""Runway's API behind the port of servers that render."""

from pathlib import Path
from typing import Final

from shared.outbound.client import Outbound
from worker.engines.base import RenderRequest
from worker.engines.remote.answers import one_line
from worker.engines.remote.errors import ContentRefused, TaskFailed, TaskVanished
from worker.engines.remote.hosted.api import HostedApi
from worker.engines.remote.hosted.film import fetch_film
from worker.engines.remote.hosted.image import images
from worker.engines.remote.hosted.model import HostedModel
from worker.engines.remote.hosted.seen import Seen
from worker.engines.remote.provider import Created, Found, Look, OnBytes
from worker.engines.remote.runway import wire

NAME: Final = "runway"
REFUSALS: Final = frozenset({503})
"""The server sheds load: no task was made."""


class RunwayProvider:
    """One account at Runway. Its tasks cannot be listed, so a lost answer stays lost."""

    name = NAME
    is_paid = True

    def __init__(self, model: HostedModel, api: HostedApi, films: Outbound) -> None:
        self._model = model
        self._api = api
        self._films = films

    def create(self, request: RenderRequest, key: str) -> Created:
        first, last = images(self._model, request, max_chars=wire.MAX_URI_CHARS)
        body = wire.create_body(self._model, request.parameters, first=first, last=last)
        answer = self._api.create("/v1/image_to_video", body)
        if answer.status_code >= 300:
            raise self._api.refused(
                self._api.words_of(answer) or f"it answered {answer.status_code}"
            )
        try:
            return Created(wire.read_id(self._api.json_of(answer)))
        except (KeyError, TypeError, ValueError) as error:
            raise self._api.unread("task") from error

    def find(self, request: RenderRequest, key: str) -> Found:
        return Found()

    def look(self, task: str) -> Look:
        answer = self._api.ask("GET", f"/v1/tasks/{task}")
        if answer.status_code == 404:
            raise TaskVanished("Runway does not know the task any longer")
        try:
            seen = wire.read_task(self._api.json_of(answer))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise self._api.unread("task") from error
        return seen.look(self._why(seen))

    def cancel(self, task: str) -> bool | None:
        answer = self._api.ask("DELETE", f"/v1/tasks/{task}")
        if answer.status_code == 404:
            raise TaskVanished("Runway does not know the task any longer")
        return True  # A running task may be charged all the same.

    def download(self, task: str, look: Look, into: Path, on_bytes: OnBytes) -> None:
        fetch_film(self._films, look.link or "", into, on_bytes)

    def _why(self, seen: Seen) -> Exception | None:
        if seen.failure is None:
            return None
        if wire.is_moderation(seen.failure):
            return ContentRefused(
                "Runway's moderation refused the image, the prompt or the clip; change them"
            )
        said = one_line(seen.reason) or "it gave no reason"
        return TaskFailed(f"Runway failed to make the clip ({one_line(seen.failure)}): {said}")
