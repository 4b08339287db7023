"""Texts that many are sent at about the same time, written once for all of them."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Final

SAME_SECONDS: Final = 0.25
"""How long a text serves: what is counted from now in it is in whole seconds."""


@dataclass(frozen=True)
class _Written:
    began_at: float
    text: "asyncio.Future[str]"


class WrittenOnce:
    """Belongs to one event loop; whoever asks while a text is being written waits for the same."""

    def __init__(self) -> None:
        self._written: OrderedDict[Hashable, _Written] = OrderedDict()

    async def get(self, name: Hashable, write: Callable[[], Awaitable[str]]) -> str:
        """Return the text of this name, or raise what writing it raised."""
        self._forget()
        written = self._written.get(name)
        if written is None:
            task = asyncio.ensure_future(write())
            # A failure that nobody waits for any more is not worth the loop's complaint.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            written = self._written[name] = _Written(_now(), task)
        if written.text.done():
            return written.text.result()
        return await asyncio.shield(written.text)  # Who hangs up must not end it for the others.

    def _forget(self) -> None:
        oldest = _now() - SAME_SECONDS
        while self._written and next(iter(self._written.values())).began_at < oldest:
            self._written.popitem(last=False)


def _now() -> float:
    return asyncio.get_running_loop().time()
