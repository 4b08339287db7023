"""What operators and clients are told about a disk that takes no more files."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from api.monitoring.disk_space import check_disk
from local.processes.process import CannotStart
from local.room import check_first_start, lack_for_jobs, lack_for_parts
from shared import disk
from shared.errors import StorageFull
from shared.settings import Settings

EVERYTHING = 2**60


def full_of_files(folder: Path) -> os.statvfs_result:
    found = list(os.statvfs(folder))
    found[6], found[7] = 10, 3  # f_ffree, f_favail
    return os.statvfs_result(found)


def read_only(folder: Path) -> os.statvfs_result:
    found = list(os.statvfs(folder))
    found[8] |= os.ST_RDONLY
    return os.statvfs_result(found)


def test_a_disk_with_room_is_no_obstacle(tmp_path: Path) -> None:
    assert disk.obstacle(tmp_path, least_bytes=0, least_files=1) is None


def test_a_first_start_on_a_full_disk_names_the_folder_and_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(CannotStart) as refused:
        check_first_start(tmp_path, least_bytes=EVERYTHING)
    assert re.fullmatch(
        rf"the disk of the data folder {re.escape(str(tmp_path))} has \d+ MiB left, and"
        r" 1099511627776 MiB must be free for a first start; make room, or set"
        r" STILLREEL_DATA_DIR to a folder on another disk",
        refused.value.message,
    )


def test_a_later_start_may_be_what_makes_room(tmp_path: Path) -> None:
    (tmp_path / "pg").mkdir()
    check_first_start(tmp_path, least_bytes=EVERYTHING)
    said = lack_for_jobs(tmp_path, EVERYTHING)
    assert said is not None
    assert said.startswith(f"the disk of the data folder {tmp_path} has ")


def test_a_folder_that_is_gone_is_no_matter_of_room(tmp_path: Path) -> None:
    assert lack_for_parts(tmp_path / "gone") is None


@pytest.mark.parametrize(
    ("look", "said"),
    [
        (full_of_files, "has 3 inodes left, and 64 must be free"),
        (read_only, "is mounted read-only; mount it for writing"),
    ],
)
def test_a_job_is_refused_where_no_file_can_be_made_however_many_bytes_are_free(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    look: Callable[[Path], os.statvfs_result],
    said: str,
) -> None:
    found = look(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda folder: found)
    with pytest.raises(StorageFull) as refused:
        check_disk(Settings(_env_file=None, data_dir=tmp_path, min_free_bytes=0))
    assert refused.value.message == (
        f"the disk under STILLREEL_DATA_DIR {said}; delete jobs, or make room"
    )
