"""`python -m deploy.fetch_models`: download the weights that this installation's workers need."""

import os
import sys
from typing import Final

import structlog

from shared.engines.entries import EngineKind
from shared.errors import AppError
from shared.logs import set_up
from shared.proxies import sparing_own_servers
from shared.settings import read_settings
from worker.engines import chosen
from worker.engines.animatediff.checkpoint import LAYOUT as ANIMATEDIFF
from worker.engines.diffusion.checkpoint import find
from worker.engines.i2vgen.checkpoint import LAYOUT as I2VGEN_XL
from worker.engines.svd.checkpoint import SVD, SVD_XT
from worker.engines.wan.checkpoint import LAYOUT as WAN

EVERY: Final = 0.05
LAYOUTS: Final = (ANIMATEDIFF, I2VGEN_XL, SVD, SVD_XT, WAN)

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
        entries = chosen(settings.engines, has_gpu=True).values()
        names = {entry.name for entry in entries if entry.kind is EngineKind.BUILT_IN}
        for layout in LAYOUTS:
            if layout.name in names:
                find(layout, settings, Progress(layout.name))
    except AppError as error:
        _log.error("not_fetched", reason=error.message)
        return 1
    _log.info("weights_ready")
    return 0


if __name__ == "__main__":
    sys.exit(main())
