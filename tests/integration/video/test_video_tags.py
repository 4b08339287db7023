"""A client's texts come back from the MP4 exactly, and appear nowhere else."""

import json
from pathlib import Path

import psutil
import pytest

from tests.support.clips import moving_clip, probe, write_clip
from tests.support.processes import until
from worker.video.metadata import Tags
from worker.video.writer import Mp4Writer

NASTY = (
    'She said "go"; a=b #1 100% \\n C:\\new\\ 你好，世界 😀🎬\r\n\tnext\n[CHAPTER]\nTIMEBASE=1/1\n'
    "START=0\nEND=9\ntitle=stolen\n;comment\n\x07\u2028\x85 $(id) `id` 'end\\"
)


def test_settings_come_back_from_the_file_exactly(tmp_path: Path) -> None:
    settings = {"seed": 2**32 - 1, "prompt": NASTY, "guidance_scale": 9.5, "size": [512, None]}

    found = probe(write_clip(tmp_path / "clip.mp4", moving_clip(), tags=Tags(settings)))

    assert json.loads(found.metadata["comment"]) == settings


def test_a_prompt_in_chinese_can_be_read_in_the_file(tmp_path: Path) -> None:
    tags = Tags({"prompt": "镜头缓缓推近"})

    found = probe(write_clip(tmp_path / "clip.mp4", moving_clip(), tags=tags))

    assert "镜头缓缓推近" in found.metadata["comment"]


@pytest.mark.parametrize("text", [NASTY, "\\", "=", "\r", "x" * 200_000, " spaces "])
def test_title_and_description_come_back_exactly(tmp_path: Path, text: str) -> None:
    tags = Tags({}, title=text, description=text[::-1])

    found = probe(write_clip(tmp_path / "clip.mp4", moving_clip(), tags=tags))

    assert found.metadata["title"] == text
    assert found.metadata["description"] == text[::-1]


def test_a_prompt_cannot_add_tags_of_its_own(tmp_path: Path) -> None:
    plain = probe(write_clip(tmp_path / "plain.mp4", moving_clip(), tags=Tags({}, "a", "b")))

    found = probe(write_clip(tmp_path / "nasty.mp4", moving_clip(), tags=Tags({}, NASTY, NASTY)))

    assert found.metadata.keys() == plain.metadata.keys()


def test_what_has_no_utf8_does_not_stop_a_clip(tmp_path: Path) -> None:
    tags = Tags({"prompt": "a\ud800b"}, title="a\0b\ud800")

    found = probe(write_clip(tmp_path / "clip.mp4", moving_clip(), tags=tags))

    assert found.metadata["title"] == "ab?"


def test_the_file_names_its_maker(tmp_path: Path) -> None:
    found = probe(write_clip(tmp_path / "clip.mp4", moving_clip()))

    assert found.metadata["encoder"] == "Stillreel"


def test_neither_prompt_nor_path_nor_secret_shows_in_the_process_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLREEL_S3_SECRET_KEY", "planted-secret")
    before = set(psutil.Process().children())
    tags = Tags({"prompt": "planted-prompt"}, title="planted-prompt")
    path = tmp_path / "clip.mp4"

    with Mp4Writer(path, width=128, height=96, fps=8, tags=tags) as writer:
        (ffmpeg,) = set(psutil.Process().children()) - before
        argv = until(ffmpeg.cmdline, "the kernel shows what was started")
        shown = " ".join(argv + list(ffmpeg.environ().values()))
        writer.write(moving_clip())

    assert "clip.mp4" in shown
    assert "planted" not in shown
    assert str(tmp_path) not in shown
