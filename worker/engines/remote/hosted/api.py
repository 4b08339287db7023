"""A provider's HTTP, in the port's terms: the meaning of each status of an answer."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from shared.errors import Unreachable
from shared.outbound.client import Answer, Outbound
from shared.outbound.errors import OutboundFailed, OutboundRefused
from worker.engines.remote.answers import one_line, read_json, retry_after
from worker.engines.remote.errors import Away, KeyRefused, RequestRefused
from worker.engines.remote.hosted.key import ProviderKey

HeadersOf = Callable[[str], Mapping[str, str]]
"""From a key to the headers that contain it."""

LATER: Final = frozenset({408, 409, 425, 429})
"""For a create: the request was not accepted. The providers' own SDKs then repeat it, too."""

SAYS_NOTHING: Final = frozenset({408, 425, 429})

_NO_MONEY: Final = re.compile(r"enough credits|insufficient (credits|balance)|exhausted balance")

_log = structlog.get_logger(__name__)


class NotServed(Unreachable):
    """The operator's key or account is at fault, so no request of a client can succeed."""

    retryable = False


class HostedApi:
    """One provider's server, asked with the operator's key, which is in no error."""

    def __init__(
        self,
        provider: str,
        outbound: Outbound,
        base_url: str,
        *,
        headers: HeadersOf,
        key: ProviderKey,
        refusals: frozenset[int],
    ) -> None:
        """`refusals` are those 5xx by which a create says for sure that it made no task."""
        self._provider = provider
        self._outbound = outbound
        self._base_url = base_url.rstrip("/")
        self._headers = headers
        self._key = key
        self._refusals = LATER | refusals

    def create(self, path: str, body: Any) -> Answer:
        """Send a request that costs money; an answer made a task, or is a 4xx of the provider.

        Raises:
            Away: `is_refusal` says whether it is known that no task was made.
            NotServed: the key or the account is refused, or another address must be asked.
        """
        try:
            answer = self._sent("POST", path, json.dumps(body).encode())
        except OutboundRefused as error:
            raise Away(error.message, is_refusal=True) from error
        except OutboundFailed as error:
            raise Away(error.message, is_refusal=not error.is_sent) from error
        if self._is_key_refused(answer):
            raise NotServed(
                f"{self._provider} does not accept our jobs now; the operator was told"
            )
        if answer.status_code in LATER or answer.status_code >= 500:
            raise self._away(answer, is_refusal=answer.status_code in self._refusals)
        if 300 <= answer.status_code < 400:
            raise self._redirected(answer)
        return answer

    def ask(
        self, method: str, path: str, *, tells: Callable[[Answer], bool] = lambda answer: False
    ) -> Answer:
        """Ask about a task; a returned answer says something about it.

        Args:
            tells: says whether a 5xx is about the task, and not about the provider's state.

        Raises:
            Away: there was no answer, or one that says nothing about the task.
            KeyRefused: the key is refused; the operator may be replacing it.
        """
        try:
            answer = self._sent(method, path)
        except (OutboundFailed, OutboundRefused) as error:
            raise Away(error.message) from error
        if self._is_key_refused(answer):
            raise KeyRefused(f"{self._provider} does not answer us now; the operator was told")
        status = answer.status_code
        if status in SAYS_NOTHING or 300 <= status < 400 or (status >= 500 and not tells(answer)):
            raise self._away(answer)
        return answer

    def _sent(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Send a request, and once more if the key was refused and its file has a newer one."""
        key = self._key.value
        answer = self._send(method, path, body, key)
        if answer.status_code in (401, 403) and self._key.renew(key):
            _log.info("provider_key_renewed", provider=self._provider)
            return self._send(method, path, body, self._key.value)
        return answer

    def _send(self, method: str, path: str, body: bytes | None, key: str) -> Answer:
        json_type = {} if body is None else {"Content-Type": "application/json"}
        headers = {"Accept": "application/json", **self._headers(key), **json_type}
        return self._outbound.send(method, f"{self._base_url}{path}", headers=headers, body=body)

    def json_of(self, answer: Answer) -> Any:
        """Return the body of an answer, with the key removed if the answer repeats it.

        Raises:
            ValueError: it is not JSON.
        """
        return read_json(answer.excerpt, secrets=self._key.known)

    def words_of(self, answer: Answer) -> object:
        """Return the error text of an answer, or nothing."""
        try:
            body = self.json_of(answer)
        except ValueError:
            return ""
        if not isinstance(body, Mapping):
            return ""
        return body.get("error") or body.get("detail") or body.get("message") or ""

    def refused(self, words: object) -> RequestRefused:
        return RequestRefused(f"{self._provider} refused the request: {one_line(words)}")

    def unread(self, what: str) -> Away:
        """Return the error for an answer that the provider's API does not define."""
        return Away(f"{self._provider} answered with something that is not a {what}")

    def _away(self, answer: Answer, *, is_refusal: bool = False) -> Away:
        return Away(
            f"{self._provider} answered {answer.status_code}",
            retry_after_seconds=retry_after(answer),
            is_refusal=is_refusal,
        )

    def _redirected(self, answer: Answer) -> NotServed:
        _log.error(
            "provider_redirects",
            provider=self._provider,
            status=answer.status_code,
            remedy="set its URL to where it redirects to: the key is sent to no other address",
        )
        return NotServed(f"{self._provider} is not where it is asked; the operator was told")

    def _is_key_refused(self, answer: Answer) -> bool:
        status = answer.status_code
        words = one_line(self.words_of(answer)) if 400 <= status < 500 else ""
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
