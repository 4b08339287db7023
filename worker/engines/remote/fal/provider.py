"""fal's queue behind the port of servers that render."""

from pathlib import Path
from typing import Final

from shared.outbound.client import Answer, Outbound
from worker.engines.base import RenderRequest
from worker.engines.remote.answers import one_line
from worker.engines.remote.errors import ContentRefused, TaskFailed, TaskVanished
from worker.engines.remote.fal import wire
from worker.engines.remote.fal.models import FalModel
from worker.engines.remote.hosted.api import HostedApi
from worker.engines.remote.hosted.film import fetch_film
from worker.engines.remote.hosted.image import images
from worker.engines.remote.hosted.seen import Phase, Seen
from worker.engines.remote.provider import Created, Found, Look, OnBytes

NAME: Final = "fal"
REFUSALS: Final[frozenset[int]] = frozenset()


class FalProvider:
    """One account at fal. Requests cannot be listed, so a lost answer stays lost."""

    name = NAME
    is_paid = True

    def __init__(self, model: FalModel, api: HostedApi, films: Outbound) -> None:
        self._model = model
        self._api = api
        self._films = films

    def create(self, request: RenderRequest, key: str) -> Created:
        first, last = images(self._model, request, max_chars=wire.MAX_URI_CHARS)
        body = wire.create_body(self._model, request.parameters, first=first, last=last)
        answer = self._api.create(f"/{self._model.name}", body)
        if answer.status_code >= 300:
            raise self._refusal(answer)
        try:
            made = wire.read_request_id(self._api.json_of(answer))
        except (KeyError, TypeError, ValueError) as error:
            raise self._api.unread("request") from error
        return Created(made)

    def find(self, request: RenderRequest, key: str) -> Found:
        return Found()

    def look(self, task: str) -> Look:
        path = wire.request_path(self._model.name, task)
        answer = self._api.ask("GET", f"{path}/status")
        if answer.status_code == 404:
            raise TaskVanished("fal does not know the request any longer")
        try:
            seen = wire.read_status(self._api.json_of(answer))
        except (KeyError, TypeError, ValueError) as error:
            raise self._api.unread("status") from error
        if seen.phase is Phase.SUCCEEDED:
            return self._result(path)
        return seen.look(self._why(seen))

    def cancel(self, task: str) -> bool | None:
        answer = self._api.ask("PUT", f"{wire.request_path(self._model.name, task)}/cancel")
        if answer.status_code == 404:
            raise TaskVanished("fal does not know the request any longer")
        # A render that has begun is charged, and an answer does not say whether it has begun.
        return True

    def download(self, task: str, look: Look, into: Path, on_bytes: OnBytes) -> None:
        fetch_film(self._films, look.link or "", into, on_bytes)

    def _result(self, path: str) -> Look:
        # If a model or its runner failed, that failure is stored as the result, with its status.
        answer = self._api.ask("GET", path, tells=lambda told: bool(self._types(told)))
        if answer.status_code == 404:
            raise TaskVanished("fal does not know the request any longer")
        if answer.status_code >= 500:
            why = ", ".join(self._types(answer))
            return Seen(phase=Phase.FAILED).look(TaskFailed(f"fal failed to make the clip: {why}"))
        if answer.status_code >= 300:
            return Seen(phase=Phase.FAILED).look(self._refusal(answer))
        try:
            url = wire.read_url(self._api.json_of(answer))
        except (KeyError, TypeError, ValueError) as error:
            raise self._api.unread("result") from error
        return Seen(phase=Phase.SUCCEEDED, url=url).look()

    def _refusal(self, answer: Answer) -> Exception:
        types = self._types(answer)
        if wire.REFUSED.intersection(types):
            return ContentRefused(
                "the model's moderation refused the image, the prompt or the clip; change them"
            )
        return self._api.refused(
            ", ".join(types) or self._api.words_of(answer) or answer.status_code
        )

    def _why(self, seen: Seen) -> Exception | None:
        if seen.failure is None:
            return None
        if seen.failure in wire.REFUSED:
            return ContentRefused(
                "the model's moderation refused the image, the prompt or the clip; change them"
            )
        said = one_line(seen.reason) or "it gave no reason"
        return TaskFailed(f"fal failed to make the clip ({one_line(seen.failure)}): {said}")

    def _types(self, answer: Answer) -> tuple[str, ...]:
        try:
            body = self._api.json_of(answer)
        except ValueError:
            return ()
        return tuple(map(one_line, wire.error_types(body)))
