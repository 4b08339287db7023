"""A clip that cannot be made or finished leaves nothing behind, and blocks no other clip."""

import contextlib
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from shared.engines.parameters import RenderParameters
from shared.engines.spec import Fit
from shared.errors import DatabaseUnavailable
from shared.lifecycle import Stage
from worker.render import loop
from worker.render.clip import Clip
from worker.render.context import STORAGE_READ
from worker.render.finish import Finisher, _queue_seconds
from worker.render.lease import STAGES
from worker.render.storage_retry import LONGEST_PAUSE_SECONDS, READ_SECONDS, UPLOAD_SECONDS


class Lease:
    """A lease that goes on for ever."""

    def enter(self, stage: Stage, total: int | None = None) -> None:
        """Do nothing."""

    touch = check = lambda self: None
    load_seconds = 0.0


def job(**values: Any) -> Any:
    parameters = RenderParameters(
        width=64,
        height=64,
        fps=8,
        num_frames=4,
        prompt="",
        negative_prompt="",
        resolution=None,
        fit=Fit.CROP,
        num_inference_steps=1,
        guidance_scale=0,
        seed=7,
    )
    usual = {
        "public_id": "job_1",
        "engine": "noop",
        "engine_revision": "1",
        "parameters": parameters,
    }
    return SimpleNamespace(**usual | values)


def clip() -> Clip:
    source = np.zeros((64, 64, 3), np.uint8)
    lease: Any = Lease()
    return Clip(job(), lease, {}, source=source, ai_generated=False)


def tail() -> Finisher:
    nobody: Any = None
    return Finisher(nobody, nobody, settle=lambda lease, error: None, release=lambda lease: None)


def test_a_finishing_slot_is_free_again_when_its_thread_could_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slot = tail()

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            slot.finish(clip())
    assert slot.wait() is False


def test_a_clip_leaves_no_folder_when_ffmpeg_cannot_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("worker.ffmpeg.get_ffmpeg_exe", lambda: str(tmp_path / "no-ffmpeg"))
    unstarted = clip()
    with pytest.raises(FileNotFoundError):
        unstarted.write(np.zeros((1, 64, 64, 3), np.uint8))
    unstarted.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_clip_makes_no_folder_before_it_is_opened(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    clip().discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [DatabaseUnavailable("away"), RuntimeError("surprise")])
def test_a_process_with_a_poisoned_device_ends_whatever_the_database_does(
    kind: Exception,
) -> None:
    exits: list[int] = []

    def beat(card: object) -> None:
        raise kind

    context: Any = SimpleNamespace(
        finisher=tail(),
        registry=SimpleNamespace(beat=beat),
        card=lambda state: state,
        die=exits.append,
    )
    with contextlib.suppress(RuntimeError):
        loop._end_process(context)
    assert exits == [loop.POISONED_EXIT]


def test_a_retried_job_has_waited_since_it_was_due_again_and_not_while_it_was_rendered() -> None:
    submitted = datetime(2026, 11, 1, tzinfo=UTC)
    hour, two = timedelta(hours=1), timedelta(seconds=2)
    fresh = job(created_at=submitted, due_at=submitted, started_at=submitted + two)
    again = job(created_at=submitted, due_at=submitted + hour, started_at=submitted + hour + two)
    assert _queue_seconds(fresh) == _queue_seconds(again) == 2


@pytest.mark.parametrize(
    ("stage", "outage"),
    [(Stage.ENCODING_INPUTS, READ_SECONDS), (Stage.UPLOADING, UPLOAD_SECONDS)],
)
def test_an_outage_of_the_storage_is_named_before_the_stage_counts_as_stalled(
    stage: Stage, outage: float
) -> None:
    """The last try begins just before the retries end, after the longest pause."""
    last_try = LONGEST_PAUSE_SECONDS + STORAGE_READ.total_seconds()
    assert outage + last_try < STAGES[stage].first_seconds
