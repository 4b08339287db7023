"""A provider's HTTP, in the words of the port: what each status of an answer means."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import structlog

from shared.errors import Unreachable
from shared.outbound.client import Answer, Outbound
from shared.outbound.errors import OutboundFailed
from worker.engines.remote.errors import Away, KeyRefused, RequestRefused

LONGEST_WORDS: Final = 200
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f\s]+")
_SECONDS: Final = re.compile(r"[0-9]{1,6}")
_NO_MONEY: Final = re.compile(r"enough credits|insufficient (credits|balance)|exhausted balance")

_log = structlog.get_logger(__name__)


class NotServed(Unreachable):
    """The operator's key or account is at fault: nothing that a client asks can help."""

    retryable = False


class HostedApi:
    """One provider's server, asked with the operator's key, which appears in no error."""

    def __init__(
        self,
        provider: str,
        outbound: Outbound,
        base_url: str,
        *,
        headers: Mapping[str, str],
        secret: str,
        refusals: frozenset[int],
    ) -> None:
        """`refusals` are the statuses by which a create says for sure that it made no task."""
        self._provider = provider
        self._outbound = outbound
        self._base_url = base_url.rstrip("/")
        self._headers = headers
        self._secret = secret
        self._refusals = refusals

    def create(self, path: str, body: Any) -> Answer:
        """Send what is paid for; an answer that comes back made a task, or is a 4xx of its own.

        Raises:
            Away: `is_refusal` says whether it is known that no task was made.
            NotServed: the key or the account is refused.
        """
        try:
            answer = self._send("POST", path, json.dumps(body).encode())
        except OutboundFailed as error:
            raise Away(error.message, is_refusal=not error.is_sent) from error
        if self._is_key_refused(answer):
            raise NotServed(
                f"{self._provider} does not accept our jobs now; the operator was told"
            )
        if answer.status_code == 429 or answer.status_code >= 500:
            raise self._away(answer, is_refusal=answer.status_code in self._refusals)
        return answer

    def ask(self, method: str, path: str) -> Answer:
        """Ask about a task; what comes back says something of it.

        Raises:
            Away: no answer, or one that says nothing of the task.
            KeyRefused: the key is refused; a new one may be on its way.
        """
        try:
            answer = self._send(method, path)
        except OutboundFailed as error:
            raise Away(error.message) from error
        if self._is_key_refused(answer):
            raise KeyRefused(f"{self._provider} does not answer us now; the operator was told")
        if answer.status_code == 429 or answer.status_code >= 500:
            raise self._away(answer)
        return answer

    def _send(self, method: str, path: str, body: bytes | None = None) -> Answer:
        json_type = {} if body is None else {"Content-Type": "application/json"}
        headers = {"Accept": "application/json", **self._headers, **json_type}
        return self._outbound.send(method, f"{self._base_url}{path}", headers=headers, body=body)

    def refused(self, words: object) -> RequestRefused:
        return RequestRefused(f"{self._provider} refused the request: {self.cut(words)}")

    def cut(self, words: object) -> str:
        """Return a provider's words as one line that may be shown."""
        line = _CONTROLS.sub(" ", str(words)).strip().replace(self._secret, "…")
        return line if len(line) <= LONGEST_WORDS else f"{line[: LONGEST_WORDS - 1]}…"

    def unread(self, what: str) -> Away:
        """Return the error for an answer that is not in the provider's words."""
        return Away(f"{self._provider} answered with something that is not a {what}")

    def _away(self, answer: Answer, *, is_refusal: bool = False) -> Away:
        return Away(
            f"{self._provider} answered {answer.status_code}",
            retry_after_seconds=_retry_after(answer),
            is_refusal=is_refusal,
        )

    def _is_key_refused(self, answer: Answer) -> bool:
        status = answer.status_code
        words = self.cut(words_of(answer)) if 400 <= status < 500 else ""
        is_refused = status in (401, 402, 403) or _NO_MONEY.search(words.lower()) is not None
        if is_refused:
            _log.error(
                "provider_refused_the_operator",
                provider=self._provider,
                status=status,
                said=words,
                remedy="check the key and the balance of the account",
            )
        return is_refused


def json_of(answer: Answer) -> Any:
    """Return the body of an answer.

    Raises:
        ValueError: it is no JSON.
    """
    return json.loads(answer.excerpt)


def words_of(answer: Answer) -> object:
    """Return what an answer says is wrong, or nothing."""
    try:
        body = json_of(answer)
    except ValueError:
        return ""
    if not isinstance(body, Mapping):
        return ""
    return body.get("error") or body.get("detail") or body.get("message") or ""


def _retry_after(answer: Answer) -> int | None:
    told = answer.headers.get("retry-after", "")
    return int(told) if _SECONDS.fullmatch(told) else None
