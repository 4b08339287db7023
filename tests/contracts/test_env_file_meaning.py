"""One `.env` means the same to Docker Compose and to each of our processes."""

import json
from pathlib import Path

import pytest

from local.cli_settings import read_settings, strange_settings
from local.processes.process import CannotStart
from shared.env_file import EnvFileError, read_env_file
from shared.settings import Settings
from tests.support.composed import compose

SERVICE = "services: {one: {image: none, env_file: [.env]}}\n"
SHELL = {"FROM_SHELL": "shell", "EMPTY": "", "BOTH": "shell"}

FILES = [
    "A=ab$cd/ef+gh",
    "A='ab$cd/ef+gh'",
    'A="ab$cd/ef+gh"',
    "A=ab$$cd\nB='ab$$cd'\nC=\"ab$$cd\"",
    'A=ab\\$cd\nB="ab\\$cd"',
    "A=$FROM_SHELL.b-${FROM_SHELL}_x\nB=$EMPTY|",
    "A=1\nB=${A}2\nA=3",
    "B=$A\nA=1",
    "BOTH=file\nA=$BOTH",
    "A=${NO:-x}${NO-y}${EMPTY:-z}${EMPTY-}${FROM_SHELL:+p}${NO+q}",
    "A=${NO:-${FROM_SHELL}}\nB=${NO:-a b}\nC=${NO:-x}y}",
    "A=$\nB=a$ b\nC=$1x\nD=$(date)`date`",
    "A=a b # comment\nB=a#b\nC=#c\nD= #c",
    "A=\"a # b\" # comment\nB='a # b'# comment",
    "A='it\\'s'\nB=\"a\\nb\\tc\\\"d\\\\e\\z\"\nC='a\\nb'\nD=a\\nb",
    'A="$$x"\nB="a$"\nC="$B"\nD="\\${B}"',
    "A=\"two\nlines\"\nB='two\nlines'",
    "export A=1\nB = 2\nC: 3\nD:x=y\nE=\nF=trail   \n   G=1",
    "FROM_SHELL\nNO\nA=1",
    "# comment\n\n  # another\nA=1\r\nB=2\r\n",
    "\ufeffA=1",
    "A=p%q\"r's",
    "A.b=1\nA-c=2\n1A=3",
]

REFUSED = [
    "A=${B",
    "A=${}",
    "A=${1}",
    "A=${B:?say which}",
    "A=${EMPTY:?say which}",
    'A="open\nB=1',
    "A='open\nB=1",
    "A B=1",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "docker-compose.yml").write_text(SERVICE)
    monkeypatch.chdir(tmp_path)
    for name, value in SHELL.items():
        monkeypatch.setenv(name, value)
    for name in ("cd", "A", "B", "NO", "x"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize("text", FILES)
def test_a_value_is_what_compose_makes_of_it(folder: Path, text: str) -> None:
    (folder / ".env").write_bytes(text.encode())
    done = compose(folder, "config", "--format", "json", **SHELL)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)["services"]["one"]["environment"]
    assert read_env_file(folder / ".env") == {
        name: value.replace("$$", "$") for name, value in theirs.items() if value is not None
    }


@pytest.mark.parametrize("text", REFUSED)
def test_what_compose_refuses_is_refused_with_its_line_and_no_value(
    folder: Path, text: str
) -> None:
    (folder / ".env").write_text(f"FIRST=1\n{text}\n")
    assert compose(folder, "config", "-q", **SHELL).returncode != 0
    with pytest.raises(EnvFileError, match=r"\.env, line 2: ") as refused:
        read_env_file(folder / ".env")
    assert "open" not in str(refused.value).removeprefix(str(folder))


def test_the_settings_are_read_so(folder: Path) -> None:
    (folder / ".env").write_text(
        "STILLREEL_S3_SECRET_KEY='ab$cd'\nSTILLREEL_S3_ACCESS_KEY=$FROM_SHELL$$x\n"
    )
    settings = Settings()
    assert settings.s3_secret_key.get_secret_value() == "ab$cd"
    assert settings.s3_access_key.get_secret_value() == "shell$x"


def test_a_dollar_sign_that_was_meant_as_one_is_pointed_out(folder: Path) -> None:
    (folder / ".env").write_text("STILLREEL_S3_SECRET_KEY=ab$cd\nA='$ef'\nB=${gh:-x}$EMPTY\n")
    [line] = strange_settings()
    assert line.startswith("in .env $cd names a variable that is not set")
    assert "write $$, or put the value in single quotes" in line


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"STILLREEL_S3_SECRET_KEY=\xff\xfe", r"\.env is not written in UTF-8"),
        (b"STILLREEL_S3_SECRET_KEY='hidden", r"\.env, line 1: .*the closing quote is missing"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(
    folder: Path, content: bytes, what: str
) -> None:
    (folder / ".env").write_bytes(content)
    with pytest.raises(CannotStart, match=what) as refused:
        read_settings()
    assert "hidden" not in refused.value.message
