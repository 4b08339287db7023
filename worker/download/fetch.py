"""Downloads one file: into a part file beside its place, hashed on the way, resumed if cut."""

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
"""Called with the bytes of a file so far; it may raise to stop."""

FETCHES: Final = 2
"""A file with other bytes is fetched once more, because a proxy may have damaged it."""


class WrongBytes(Exception):
    """There are as many bytes as expected, but not those that the source lists."""


def part_of(target: Path, file: RemoteFile) -> Path:
    """Return the part file's path, named by the content, so that only the same is resumed."""
    return target.with_name(f".{target.name}.{file.key[:16]}.part")


def fetch(
    source: Source, repository: Repository, file: RemoteFile, target: Path, report: Report
) -> str:
    """Put the file at `target` and return its sha256; bytes of an earlier process are kept.

    Raises:
        MissingWeights: the source does not answer, or sends other bytes than it lists.
        OSError: the disk refuses the bytes.
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
    """Append the missing bytes, over as many connections as needed, while each brings some."""
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
                have = output.tell()
            if have > before:
                pauses = list(source.web.pauses)
            elif not pauses:
                raise Unanswered("it gives no more bytes")
            elif have < file.size:
                time.sleep(pauses.pop(0))
        os.fsync(output.fileno())
    if not digest.is_of(sha256=file.sha256, git_sha1=file.git_sha1):
        raise WrongBytes
    part.replace(target)
    report(file.size)
    return digest.sha256


def _append(
    source: Source, file: RemoteFile, output: Any, digest: Digest, have: int, report: Report
) -> int:
    """Return how many bytes there are after one more connection."""
    asked = {"Range": f"bytes={have}-"} if have else {}
    with source.web.stream(file.url, headers=asked) as response:
        if response.status_code == 416:
            raise WrongBytes  # The source's file is shorter than the part that we have.
        # A server that ignores the range begins at the first byte; the bytes that we have are
        # skipped.
        passed = 0 if response.status_code == 206 else have
        for chunk in response.iter_bytes():
            fresh = chunk[passed:]
            passed -= len(chunk) - len(fresh)
            if have + len(fresh) > file.size:
                raise WrongBytes
            output.write(fresh)
            output.flush()  # A process that is killed now loses nothing of what has arrived.
            digest.update(fresh)
            have += len(fresh)
            report(have)
    return have


def _read_again(part: Path, digest: Digest, size: int) -> int:
    """Feed the bytes of an earlier process to the digest, and return their number."""
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
    """Use the file that the hub's own programs have on this machine; it is hashed like any other.

    It is linked if both are on one disk, so that it takes no space twice.
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
