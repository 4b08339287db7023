"""`python -m deploy.fetch_models`: download the weights that this installation's workers need."""

import os
import sys
from typing import Final

import structlog

from shared.errors import AppError
from shared.logs import set_up
from shared.proxies import sparing_own_servers
from shared.settings import read_settings
from worker.engines import chosen
from worker.engines.i2vgen.checkpoint import NAME, find

EVERY: Final = 0.05

_log = structlog.get_logger(__name__)


class Progress:
    """Says every twentieth of a download."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._next = 0.0

    def __call__(self, fraction: float, what: str) -> None:
        if fraction >= self._next:
            self._next = fraction + EVERY
            _log.info("fetching", model=self._model, percent=round(100 * fraction), what=what)


def main() -> int:
    settings = read_settings()
    set_up(settings, process="models")
    os.environ.update(sparing_own_servers(os.environ, settings))
    try:
        if NAME in chosen(settings.engines, has_gpu=True):
            find(settings, Progress(NAME))
    except AppError as error:
        _log.error("not_fetched", reason=error.message)
        return 1
    _log.info("weights_ready")
    return 0


if __name__ == "__main__":
    sys.exit(main())
