"""The command `stillreel` against a service whose answers a test wrote."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from stillreel.command.completion import script, walk
from stillreel.command.ledger import NAME, Entry, Ledger
from stillreel.command.parser import make_parser
from tests.support.command import Terminal, env, piped
from tests.support.scripted_service import HANG_UP, Line, job_body, problem, scripted, succeeded
from tests.support.stack import ROOT

CLIENT = ROOT / "client"
KEY = {"id": "key_1", "name": "cms", "prefix": "sr_abc", "is_admin": False}
MADE = {**KEY, "created_at": "2026-11-30T10:00:00Z", "key": "sr_secret"}
LISTED = Line(200, {"data": [job_body()], "has_more": False})


def test_the_client_needs_what_it_names_and_meets_nothing_of_the_service() -> None:
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]
    named = {re.split(r"[<>=~!]", each)[0] for each in project["dependencies"]}
    assert named == {"httpx2", "rich"}
    met = set()
    for path in (CLIENT / "stillreel").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                met |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                met.add(str(node.module).partition(".")[0])
    assert met - set(sys.stdlib_module_names) == named | {"stillreel"}


def test_a_pipe_gets_json_and_a_terminal_a_table(tmp_path: Path) -> None:
    with scripted(LISTED) as service:
        told = piped(service.url, "list", folder=tmp_path)
        assert json.loads(told.stdout)[0]["id"] == "job_1"
        with Terminal(service.url, "list", folder=tmp_path) as terminal:
            assert terminal.end() == 0
    assert "slow push in" in terminal.seen
    assert "{" not in terminal.seen


@pytest.mark.parametrize(
    ("line", "words", "says", "status"),
    [
        (problem(401, "missing_api_key", "no key"), ["list"], "set STILLREEL_KEY", 1),
        (problem(404, "not_found"), ["estimate", "camera"], "gives no estimates", 1),
        (Line(200, b"<html>"), ["models"], "Check STILLREEL_URL", 1),
        (LISTED, ["list", "--limit", "0"], "--limit", 2),
        (LISTED, ["submit", "no.jpg", "x"], "no.jpg", 1),
        (LISTED, ["batch", "nowhere", "--prompt", "x"], "no folder nowhere", 2),
        (LISTED, ["dance"], "invalid choice", 2),
        # These are more examples of the same kinds.
        *(
            pytest.param(*case, marks=pytest.mark.extended)
            for case in (
                (
                    problem(401, "invalid_api_key", "wrong key"),
                    ["list"],
                    "check STILLREEL_KEY",
                    1,
                ),
                (problem(500, "internal", "a fault"), ["cancel", "job_1"], "a fault", 1),
                (LISTED, ["list", "--metadata", "oops"], "NAME=VALUE", 2),
                (
                    LISTED,
                    ["submit", "no.jpg", "x", "-o", "no/folder/x.mp4"],
                    "no folder no/folder",
                    2,
                ),
                (LISTED, ["batch", ".", "--prompt", "x", "--in-flight", "0"], "--in-flight", 2),
            )
        ),
    ],
)
def test_an_error_is_one_sentence_that_says_what_to_do(
    tmp_path: Path, line: Line, words: list[str], says: str, status: int
) -> None:
    with scripted(line) as service:
        told = piped(service.url, *words, folder=tmp_path, STILLREEL_KEY="sr_canary")
    assert says.lower() in told.stderr.lower()
    assert "Traceback" not in told.stderr
    assert "canary" not in told.stderr + told.stdout
    assert (told.returncode, told.stdout) == (status, "[]\n" if words[0] == "cancel" else "")


def test_nothing_that_nobody_named_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"a photo")
    (tmp_path / "photo.mp4").write_bytes(b"a film")
    with scripted(HANG_UP) as service:
        told = piped(service.url, "submit", "photo.jpg", "x", folder=tmp_path)
    assert told.returncode == 2
    assert "photo.mp4 is there already" in told.stderr
    assert service.heard == []


def test_every_option_of_the_clip_reaches_the_service(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"a photo")
    words = ["submit", "photo.jpg", "waves", "--no-wait", "--model", "camera", "--steps", "30"]
    words += ["--seed", "7", "--outputs", "gif", "--metadata", "shelf=A 3", "--set", "loop=true"]
    words += ["--set", "style=film", "--guidance-scale", "7.5", "--num-frames", "24"]
    with scripted(Line(202, job_body(warnings=["fps was ignored"]))) as service:
        told = piped(service.url, *words, folder=tmp_path)
    assert told.returncode == 0
    assert json.loads(told.stdout)["id"] == "job_1"
    assert "fps was ignored" in told.stderr
    body = service.heard[0].body.decode()
    sent = dict(re.findall(r'name="(\w+)"\r\n\r\n(.*?)\r\n', body))
    assert sent == {
        "prompt": "waves",
        "model": "camera",
        "num_inference_steps": "30",
        "seed": "7",
        "outputs": '["gif"]',
        "metadata": '{"shelf": "A 3"}',
        "loop": "true",
        "style": "film",
        "guidance_scale": "7.5",
        "num_frames": "24",
    }


def test_a_job_that_failed_fails_the_command(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"a photo")
    error = {"code": "bad_video", "message": "the clip was blank", "retryable": True}
    failed = Line(200, job_body(status="failed", error=error))
    with scripted(Line(202, job_body()), problem(404, "not_found"), failed) as service:
        told = piped(service.url, "submit", "photo.jpg", "x", folder=tmp_path)
    assert (told.returncode, told.stdout) == (1, "")
    assert "the clip was blank; submitting it again may help" in told.stderr
    assert not (tmp_path / "photo.mp4").exists()


def test_a_watch_in_a_pipe_is_a_line_of_json_for_each_change(tmp_path: Path) -> None:
    etag = {"ETag": 'W/"1"'}
    polls = [Line(200, job_body(), etag), Line(200, succeeded(), etag)]
    first = [Line(200, job_body()), problem(404, "not_found")]
    with scripted(*first, *polls) as service:
        told = piped(service.url, "watch", "job_1", folder=tmp_path)
    assert told.returncode == 0
    assert [json.loads(line)["version"] for line in told.stdout.splitlines()] == [1, 9]


def test_a_new_key_is_the_only_line_of_stdout_on_a_terminal(tmp_path: Path) -> None:
    with scripted(Line(201, MADE)) as service:
        with Terminal(service.url, "keys", "create", "cms", folder=tmp_path) as terminal:
            assert terminal.end() == 0
        told = piped(service.url, "keys", "create", "cms", "--admin", folder=tmp_path)
    assert "shown once" in terminal.seen
    assert terminal.seen.strip().splitlines()[-1] == "sr_secret"
    assert json.loads(told.stdout)["key"] == "sr_secret"
    assert json.loads(service.heard[1].body) == {"name": "cms", "is_admin": True}


def complete(*words: str) -> list[str]:
    """Return the completions that bash offers after these words."""
    bash = shutil.which("bash")
    assert bash is not None
    lines = [
        script(make_parser(), "bash"),
        f"COMP_WORDS=({' '.join(repr(word) for word in words)})",
        f"COMP_CWORD={len(words) - 1}",
        "_stillreel",
        'printf "%s\\n" "${COMPREPLY[@]}"',
    ]
    told = subprocess.run(
        [bash, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=30, check=True
    )
    assert told.stderr == ""
    return told.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("stillreel", "ba"), ["batch"]),
        (("stillreel", "submit", "--res"), ["--resolution"]),
        (("stillreel", "submit", "a.jpg", "--priority", "h"), ["high"]),
        (("stillreel", "keys", "r"), ["revoke", "rotate"]),
        (("stillreel", "keys", "create", "--ad"), ["--admin"]),
        (("stillreel", "completion", "z"), ["zsh"]),
    ],
)
def test_bash_completes(words: tuple[str, ...], offered: list[str]) -> None:
    assert sorted(complete(*words)) == offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_offered_every_command_and_option(shell: str) -> None:
    parser = make_parser()
    written = script(parser, shell)
    for path, command in walk(parser):
        for name in path.split():
            assert name in written
        for action in command._actions:
            for name in action.option_strings:
                sought = name if shell == "zsh" else f" -{'l' if name[1] == '-' else 's'} "
                assert sought in written
                assert name.lstrip("-") in written


def entry(**changes: Any) -> Entry:
    usual = {"photo": "a.jpg", "clip": "a.mp4", "asked": "x", "turn": 0, "job": "job_1"}
    return Entry(**{**usual, "status": "submitted", **changes})


def test_a_ledger_that_a_kill_cut_short_loses_that_line_only(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.write(entry())
    ledger.write(entry(photo="b.jpg"))
    whole = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(whole[:-20])
    again = Ledger(tmp_path)
    assert (again.identity, again.of("a.jpg"), again.of("b.jpg")) == (
        ledger.identity,
        entry(),
        None,
    )
    again.write(entry(photo="b.jpg", status="failed"))
    assert Ledger(tmp_path).of("b.jpg") == entry(photo="b.jpg", status="failed")


def test_a_file_of_another_program_is_not_taken_for_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"a photo")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / NAME).write_text('{"mine": 1}\n')
    models = Line(200, {"data": []})
    with scripted(models) as service:
        told = piped(
            service.url, "batch", "photos", "-o", "clips", "--prompt", "x", folder=tmp_path
        )
    assert told.returncode == 1
    assert "is not a ledger of a batch" in told.stderr


def test_a_reader_that_has_gone_is_no_fault(tmp_path: Path) -> None:
    page = Line(200, {"data": [job_body(id=f"job_{n}") for n in range(99)], "has_more": False})
    with scripted(page) as service:
        command = f"{sys.executable} -m stillreel.command.main list --limit 99 | true"
        told = subprocess.run(
            ["bash", "-c", command],
            env=env(service.url),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            cwd=tmp_path,
        )
    assert told.stderr == ""
