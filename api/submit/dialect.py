"""How a protocol writes a create request: our own by default, others' in `api/compat/`."""

from collections.abc import Callable
from dataclasses import dataclass

from api.submit.body import CreateRequest, Received


@dataclass(frozen=True)
class Dialect:
    """Reads a body that has arrived; a form's picture is the part with one of these names."""

    read: Callable[[Received], CreateRequest]
    file_parts: frozenset[str]
