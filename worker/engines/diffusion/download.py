"""A pinned snapshot from the hub or a mirror, with progress, stopped when its owner stops."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any, Final

from shared.errors import MissingWeights
from worker.engines.base import OnProgress

POLL_SECONDS: Final = 0.5


class Transfer:
    """How many bytes have arrived; written by the download's threads, read by its owner."""

    def __init__(self) -> None:
        self.done = 0
        self.total = 0
        self.stopped = False

    @property
    def fraction(self) -> float:
        return min(1.0, self.done / self.total) if self.total else 0.0


class Stopped(Exception):
    """Ends the download's threads after the owner's callback has raised."""


def download(
    repository: str,
    revision: str,
    files: Sequence[str],
    endpoint: str | None,
    on_progress: OnProgress,
) -> Path:
    """Return the folder of a snapshot, fetched if it is not in the hub's cache.

    Raises:
        MissingWeights: the hub cannot be reached, or has no such revision.
    """
    transfer = Transfer()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="weights") as pool:
        fetched = pool.submit(_fetch, repository, revision, files, endpoint, transfer)
        try:
            return _watched(fetched, transfer, on_progress)
        finally:
            transfer.stopped = True


def _watched(fetched: "Future[str]", transfer: Transfer, on_progress: OnProgress) -> Path:
    """Report progress from the caller's own thread, where it may raise."""
    while True:
        try:
            return Path(fetched.result(timeout=POLL_SECONDS))
        except NotYet:
            on_progress(transfer.fraction, "downloading weights")


def _fetch(
    repository: str, revision: str, files: Sequence[str], endpoint: str | None, transfer: Transfer
) -> str:
    hub = import_module("huggingface_hub")  # Imported late: it takes most of a second.
    http = import_module("httpx2")
    try:
        folder: str = hub.snapshot_download(
            repository,
            revision=revision,
            allow_patterns=list(files),
            endpoint=endpoint,
            tqdm_class=_bar(transfer),
        )
    # The last two are what its client makes of a proxy that is none, or a SOCKS one.
    except (OSError, http.HTTPError, ValueError, ImportError) as error:
        raise MissingWeights(
            f"the weights of {repository} could not be downloaded: check the network (and the"
            " proxy, if one is set), set STILLREEL_HF_ENDPOINT to a mirror, or"
            " STILLREEL_MODEL_DIR to a folder of weights"
        ) from error
    return folder


def _bar(transfer: Transfer) -> type[Any]:
    """Return a progress bar for the hub that shows nothing and counts into `transfer`."""
    base: type[Any] = import_module("tqdm.auto").tqdm

    class Counter(base):
        monitor_interval = 0  # No thread that watches over the drawing of bars.

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "file": StringIO()})

        def update(self, n: float | None = 1) -> None:
            if transfer.stopped:
                raise Stopped
            super().update(n)
            if self.unit == "B" and self.total:
                transfer.done = max(transfer.done, int(self.n))
                transfer.total = max(transfer.total, int(self.total))

    return Counter
