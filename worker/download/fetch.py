"""One file: into a part beside its place, hashed on the way, gone on with where it was cut."""

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from worker.download.digest import CHUNK_BYTES, Digest
from worker.download.repository import RemoteFile, Repository
from worker.download.source import Source
from worker.download.web import Refused, Unanswered

Report = Callable[[int], None]
"""Told how many bytes of a file are there; may raise to stop."""

FETCHES: Final = 2
"""A file that came with other bytes is fetched once more, since a proxy may have cut into it."""


class WrongBytes(Exception):
    """The bytes of the right number are not those that the source lists."""


def part_of(target: Path, file: RemoteFile) -> Path:
    """Return where the file grows; named by its content, so that it is gone on with rightly."""
    return target.with_name(f".{target.name}.{file.key[:16]}.part")


def fetch(
    source: Source, repository: Repository, file: RemoteFile, target: Path, report: Report
) -> str:
    """Put the file at `target` and return its sha256; what an earlier process got is kept.

    Raises:
        MissingWeights: the source cannot be had, or gives other bytes than it lists.
        OSError: the disk refuses them.
    """
    part = part_of(target, file)
    part.parent.mkdir(parents=True, exist_ok=True)
    _adopt(repository, file, part)
    for _ in range(FETCHES):
        try:
            return _complete(source, file, part, target, report)
        except WrongBytes:
            part.unlink(missing_ok=True)
        except Refused as refused:
            raise source.refusal(repository, refused) from refused
        except Unanswered as error:
            raise source.broken(
                repository,
                "did not answer, or broke the connection too often; the downloaded part is kept",
            ) from error
    raise source.broken(repository, f"sent other bytes than it lists for {file.path}, twice")


def _complete(source: Source, file: RemoteFile, part: Path, target: Path, report: Report) -> str:
    """Append what is missing, over as many connections as it takes, while each brings some."""
    digest = Digest(file.size)
    have = _read_again(part, digest, file.size)
    with part.open("ab") as output:
        pauses = list(source.web.pauses)
        while have < file.size:
            report(have)
            before = have
            try:
                have = _append(source, file, output, digest, have, report)
            except Unanswered:
                output.flush()
                have = output.tell()
            if have > before:
                pauses = list(source.web.pauses)
            elif not pauses:
                raise Unanswered("it gives no more bytes")
            elif have < file.size:
                time.sleep(pauses.pop(0))
        output.flush()
        os.fsync(output.fileno())
    if not digest.is_of(sha256=file.sha256, git_sha1=file.git_sha1):
        raise WrongBytes
    part.replace(target)
    report(file.size)
    return digest.sha256


def _append(
    source: Source, file: RemoteFile, output: Any, digest: Digest, have: int, report: Report
) -> int:
    """Return how many bytes are there after one more connection."""
    asked = {"Range": f"bytes={have}-"} if have else {}
    with source.web.stream(file.url, headers=asked) as response:
        if response.status_code == 416:
            raise WrongBytes  # The file is shorter there than what has come of it.
        # A server that ignores the range begins at the first byte: what is there is passed over.
        passed = 0 if response.status_code == 206 else have
        for chunk in response.iter_bytes():
            fresh = chunk[passed:]
            passed -= len(chunk) - len(fresh)
            if have + len(fresh) > file.size:
                raise WrongBytes
            output.write(fresh)
            digest.update(fresh)
            have += len(fresh)
            report(have)
    return have


def _read_again(part: Path, digest: Digest, size: int) -> int:
    """Feed what an earlier process got to the digest, and return how much that is."""
    have = 0
    with suppress(FileNotFoundError):
        if part.stat().st_size > size:
            part.unlink()
        with part.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                have += len(chunk)
    return have


def _adopt(repository: Repository, file: RemoteFile, part: Path) -> None:
    """Take the bytes that the hub's own programs have on this machine; they are hashed like any.

    Linked where both lie on one disk, so that they take no room twice.
    """
    cache = Path(import_module("huggingface_hub.constants").HF_HUB_CACHE)
    name = "--".join(("models", *repository.hub_id.split("/")))
    blob = cache / name / "blobs" / file.key
    with suppress(OSError):
        if part.exists() or blob.stat().st_size != file.size:
            return
        try:
            os.link(blob, part)
        except OSError:
            shutil.copyfile(blob, part)
