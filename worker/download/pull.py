"""Downloads a checkpoint into its folder: list, check space, fetch what is missing, record it."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

from shared.errors import MissingWeights
from worker.download.digest import sha256_of
from worker.download.fetch import fetch, part_of
from worker.download.lock import locked
from worker.download.manifest import (
    KeptFile,
    Manifest,
    Origin,
    is_foreign,
    read_manifest,
    write_manifest,
)
from worker.download.repository import Listing, RemoteFile, Repository
from worker.download.source import Source
from worker.download.space import check_space, disk_refused, in_words

POLL_SECONDS: Final = 0.5
CONNECTIONS: Final = 4
PARTS: Final = ".*.part"


class Progress(Protocol):
    def __call__(self, fraction: float, what: str) -> None:
        """Report the progress, 0 to 1; it may raise to stop."""


@dataclass(frozen=True)
class Wanted:
    """A file of a repository, and its place in the folder."""

    path: str
    repository: Repository
    file: RemoteFile


Choose = Callable[[Repository, Listing], Iterator[tuple[str, RemoteFile]]]
"""Yields, of a repository's files, each wanted file with its place in the folder."""

Convert = Callable[[Path], str | None]
"""May rewrite a fetched file in its place; returns the new one, or None if nothing changed."""


class Stopped(Exception):
    """Ends the threads of a download after its owner's callback has raised."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a pull: an engine's repositories, and which of their files it wants.

    Weights of the parts in `converted` go through `convert`; `written` are files that we write
    into the folder: path -> content.
    """

    engine: str
    repositories: Sequence[Repository]
    choose: Choose
    convert: Convert
    converted: Sequence[str] = ()
    written: Mapping[str, bytes] = field(default_factory=dict)

    def is_converted(self, path: str) -> bool:
        return path.partition("/")[0] in self.converted and path.endswith(".safetensors")


class Pull:
    """One download: its threads write to `folder`, and its owner gets reports and may stop it."""

    def __init__(
        self, checkpoint: Checkpoint, source: Source, folder: Path, *, spare_bytes: int
    ) -> None:
        self._checkpoint = checkpoint
        self._source = source
        self._folder = folder
        self._spare = spare_bytes
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._converts = threading.Lock()  # Each thread holds a whole file in memory.
        self._arrived: dict[str, int] = {}
        self._total = 0
        self._says = "asking what there is to download"
        self._manifest = Manifest(checkpoint.engine, (), {})

    def run(self, on_progress: Progress) -> Manifest:
        """Return the manifest of the complete folder; it reports from the caller's own thread.

        Raises:
            MissingWeights: the weights cannot be downloaded; the message says what to do. The
                downloaded part is kept for the next time.
        """
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="weights") as pool:
            pulled = pool.submit(self._pull)
            try:
                while True:
                    done, _ = wait([pulled], timeout=POLL_SECONDS)
                    if done:
                        return pulled.result()
                    on_progress(self._fraction, self._says)
            finally:
                self._stop.set()

    @property
    def _fraction(self) -> float:
        return min(1.0, sum(self._arrived.copy().values()) / self._total) if self._total else 0.0

    def _pull(self) -> Manifest:
        name = self._checkpoint.engine
        try:
            with locked(self._folder, self._wait_for_another):
                return self._pull_alone()
        except OSError as error:
            raise disk_refused(name, error) from error
        finally:
            self._source.web.close()

    def _wait_for_another(self) -> None:
        self._says = "waiting for another process that downloads these weights"
        self._check_stop()
        time.sleep(POLL_SECONDS)

    def _pull_alone(self) -> Manifest:
        if is_foreign(self._folder):
            raise MissingWeights(
                f"the folder {self._checkpoint.engine} of STILLREEL_WEIGHTS_DIR has weights that"
                " no pull put there, and is left as it is: name its parent in"
                " STILLREEL_MODEL_DIR to use them, or move them away"
            )
        wanted, origins = self._listed()
        planned = {each.path: each.file.size for each in wanted}
        planned |= {path: len(content) for path, content in self._checkpoint.written.items()}
        kept = self._still_good(wanted)
        self._manifest = Manifest(self._checkpoint.engine, origins, planned, kept)
        missing = [each for each in wanted if each.path not in kept]
        self._total = sum(planned.values())
        self._arrived = {path: each.source_size for path, each in kept.items()}
        check_space(
            self._checkpoint.engine,
            self._folder,
            needed=sum(each.file.size - self._have(each) for each in missing)
            + self._room_to_convert(missing),
            spare=self._spare,
        )
        self._says = f"downloading {in_words(self._total)} of weights"
        write_manifest(self._folder, self._manifest)
        self._fetch_all(missing)
        self._write_ours()
        self._remove_what_is_not_planned()
        self._manifest = replace(self._manifest, is_whole=True)
        write_manifest(self._folder, self._manifest)
        return self._manifest

    def _listed(self) -> tuple[list[Wanted], tuple[Origin, ...]]:
        wanted: list[Wanted] = []
        origins: list[Origin] = []
        for repository in self._checkpoint.repositories:
            self._check_stop()
            listing = self._source.listing(repository)
            wanted += [
                Wanted(path, repository, file)
                for path, file in self._checkpoint.choose(repository, listing)
            ]
            origins.append(
                Origin(
                    source=self._source.kind,
                    repository=repository.id_on(self._source.kind) or "",
                    revision=repository.revision,
                    commit=listing.commit or "",
                )
            )
        return wanted, tuple(origins)

    def _still_good(self, wanted: Sequence[Wanted]) -> dict[str, KeptFile]:
        """Return the files that an earlier pull finished, and that are still wanted."""
        earlier = read_manifest(self._folder)
        if earlier is None:
            return {}
        good = {}
        for each in wanted:
            kept = earlier.files.get(each.path)
            if kept is not None and self._is_same(each, kept):
                good[each.path] = kept
        return good

    def _is_same(self, wanted: Wanted, kept: KeptFile) -> bool:
        with suppress(OSError):
            size = (self._folder / wanted.path).stat().st_size
            # ModelScope names small files in another way than the hub, and we know both names.
            named = {kept.key, kept.sha256 if kept.converted is None else kept.key}
            return size == kept.size and wanted.file.key in named
        return False

    def _have(self, wanted: Wanted) -> int:
        """Return how many bytes of a file an earlier process got, recorded or not."""
        place = self._folder / wanted.path
        part = part_of(place, wanted.file)
        with suppress(OSError):
            if not part.exists() and place.stat().st_size == wanted.file.size:
                place.replace(part)
            size = part.stat().st_size
            return size if size <= wanted.file.size else 0
        return 0

    def _room_to_convert(self, missing: Sequence[Wanted]) -> int:
        """Return the bytes that the largest conversion writes beside its source: half of it."""
        sizes = [each.file.size for each in missing if self._checkpoint.is_converted(each.path)]
        return max(sizes, default=0) // 2

    def _fetch_all(self, missing: Sequence[Wanted]) -> None:
        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="weights") as pool:
            fetched: list[Future[None]] = [pool.submit(self._fetch, each) for each in missing]
            try:
                done, _ = wait(fetched, return_when=FIRST_EXCEPTION)
                for each in done:
                    each.result()
            finally:
                if not all(each.done() for each in fetched):
                    self._stop.set()
                    pool.shutdown(wait=True, cancel_futures=True)

    def _fetch(self, wanted: Wanted) -> None:
        place = self._folder / wanted.path

        def report(have: int) -> None:
            self._check_stop()
            self._arrived[wanted.path] = have

        fetched = fetch(self._source, wanted.repository, wanted.file, place, report)
        converted = None
        if self._checkpoint.is_converted(wanted.path):
            with self._converts:
                self._check_stop()
                converted = self._checkpoint.convert(place)
        kept = KeptFile(
            size=place.stat().st_size,
            sha256=fetched if converted is None else sha256_of(place),
            key=wanted.file.key,
            source_size=wanted.file.size,
            converted=converted,
        )
        self._note(wanted.path, kept)

    def _write_ours(self) -> None:
        for path, content in self._checkpoint.written.items():
            place = self._folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            named = sha256(content).hexdigest()
            self._note(path, KeptFile(len(content), named, named, len(content)))

    def _note(self, path: str, kept: KeptFile) -> None:
        with self._lock:
            self._manifest = self._manifest.with_file(path, kept)
            write_manifest(self._folder, self._manifest)

    def _remove_what_is_not_planned(self) -> None:
        """Remove part files that no download continues, and files of an earlier revision."""
        for path in self._folder.rglob("*"):
            name = path.relative_to(self._folder).as_posix()
            is_weight = path.suffix in {".safetensors", ".json"} and name.count("/") == 1
            if (is_weight and name not in self._manifest.planned) or path.match(PARTS):
                path.unlink(missing_ok=True)

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped


def whole(folder: Path, repositories: Sequence[Repository]) -> Manifest | None:
    """Return the folder's manifest if nothing needs to be fetched; it sends no request.

    A pinned repository must be at its revision, or come from ModelScope, which pins none. For an
    unpinned one any commit is good once the folder is complete.
    """
    manifest = read_manifest(folder)
    if manifest is None or not manifest.is_intact(folder):
        return None
    held = {each.repository: each for each in manifest.origins}
    for repository in repositories:
        origin = held.get(repository.hub_id) or held.get(repository.modelscope_id or "")
        if origin is None or (origin.commit and origin.revision != repository.revision):
            return None
    return manifest
