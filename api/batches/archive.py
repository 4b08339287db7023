"""A batch's clips as one zip, written while it is read, with one piece in memory at a time."""

import csv
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import datetime
from typing import Final

from shared.errors import Gone
from shared.jobs.batch import Batch
from shared.jobs.job import Artifact, Job, Variant
from shared.storage import Storage

TABLE: Final = "results.csv"
COLUMNS: Final = (
    *("position", "job_id", "status", "file", "error_code", "error_message", "model", "seed"),
    *("width", "height", "num_frames", "fps", "prompt", "metadata"),
)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""The first characters of a cell that a spreadsheet would run."""

_EARLIEST: Final = 1980  # The zip format has no year before this.


def write_archive(
    storage: Storage, batch: Batch, jobs: Iterator[tuple[int, Job]]
) -> Iterator[bytes]:
    """Yield a zip of the clips, stored without compression, with a table of all jobs at its end.

    An expired clip is not in the zip, and the table says so. The table is written last, from what
    was found.

    Raises:
        StorageUnavailable: the rest cannot be read now.
    """
    sink = _Sink()
    rows = []
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for position, job in jobs:
            name = ""
            artifact = _video(job)
            if artifact is not None:
                name = f"{position:03d}_{job.public_id}.mp4"
                try:
                    content = storage.open(artifact.key)
                except Gone:
                    name = ""
                else:
                    yield from _clip(archive, sink, name, artifact, content.chunks, job)
            rows.append(_row(position, job, name))
        archive.writestr(_entry(TABLE, batch.finished_at or batch.created_at), _table(rows))
        yield sink.take()
    yield sink.take()


def _clip(
    archive: zipfile.ZipFile,
    sink: "_Sink",
    name: str,
    artifact: Artifact,
    chunks: Iterator[bytes],
    job: Job,
) -> Iterator[bytes]:
    entry = _entry(name, job.finished_at or job.created_at)
    entry.file_size = artifact.bytes
    with closing(chunks), archive.open(entry, "w") as file:  # type: ignore[type-var]
        for chunk in chunks:
            file.write(chunk)
            yield sink.take()
    yield sink.take()


def _video(job: Job) -> Artifact | None:
    if job.result is None or job.deleted_at is not None or job.expired_at is not None:
        return None
    return job.result.artifacts.get(Variant.VIDEO)


def _entry(name: str, at: datetime) -> zipfile.ZipInfo:
    year = max(_EARLIEST, at.year)
    return zipfile.ZipInfo(name, (year, at.month, at.day, at.hour, at.minute, at.second))


def _row(position: int, job: Job, name: str) -> Mapping[str, object]:
    """Return a job's line; for a deleted job only that it was deleted."""
    if job.deleted_at is not None:
        return {"position": position, "job_id": job.public_id, "status": "deleted"}
    parameters = job.parameters
    return {
        "position": position,
        "job_id": job.public_id,
        "status": "expired" if job.result is not None and not name else job.status,
        "file": name,
        "error_code": job.error_code or "",
        "error_message": job.error_message or "",
        "model": job.engine,
        "seed": parameters.seed,
        "width": parameters.width,
        "height": parameters.height,
        "num_frames": parameters.num_frames,
        "fps": parameters.fps,
        "prompt": parameters.prompt,
        "metadata": json.dumps(job.metadata, ensure_ascii=False) if job.metadata else "",
    }


def _table(rows: list[Mapping[str, object]]) -> bytes:
    """Return the table in UTF-8, with the byte order mark by which spreadsheets recognise it."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return b"\xef\xbb\xbf" + text.getvalue().encode()


def _cell(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula, because clients wrote its text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


class _Sink(io.RawIOBase):
    """Holds what was written and not yet read; a zip in a stream cannot seek, and need not."""

    def __init__(self) -> None:
        super().__init__()
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(memoryview(data))  # type: ignore[arg-type]
        self._held += piece
        return len(piece)

    def take(self) -> bytes:
        taken = bytes(self._held)
        self._held.clear()
        return taken
