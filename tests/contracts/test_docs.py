"""The pages say what the code does."""

import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from api.body_limit import with_image
from api.dependencies import MAX_WAIT_SECONDS
from shared.lifecycle import TRANSITIONS, Event, Status
from shared.settings import Settings
from tests.contracts import test_compose
from tests.contracts import test_engine as contract
from worker.engines import build, chosen

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
IN_CODE = re.compile(r"`([\w.-]+(?:/[\w.-]+)+/?)`")


@pytest.fixture
def fade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The engine of the page, as the module `fade` of this process."""
    page = (ROOT / "docs" / "adding-an-engine.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 1
    module = tmp_path / "fade.py"
    module.write_text(blocks[0])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "fade", raising=False)
    return module


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: str(check.__name__))
def test_the_engine_of_the_page_keeps_the_contract(
    fade: Path, check: Callable[[contract.Bench], None]
) -> None:
    entries = chosen("camera,fade=fade:FadeEngine", has_gpu=False)
    engine = build(entries["fade"], Settings(_env_file=None))
    assert import_module("fade").__file__ == str(fade)
    engine.load("cpu", contract.ignore_progress)
    subject = contract.Subject("fade", lambda folder: engine, cases=((96, 64, 8), (66, 130, 9)))
    check(contract.Bench(engine, subject))


def test_the_engine_of_the_page_reads_like_our_code(fade: Path) -> None:
    ruff = [sys.executable, "-m", "ruff"]
    config = ["--config", str(ROOT / "pyproject.toml")]
    for command in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        done = subprocess.run(
            [*ruff, *command, *config, str(fade)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def test_the_proxies_of_the_page_let_through_what_the_gateway_takes() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    settings = Settings(_env_file=None)

    def number(pattern: str) -> int:
        (found,) = re.findall(pattern, page)
        return int(found)

    most_bytes = with_image(settings).bytes
    assert number(r"client_max_body_size (\d+)m;") * 2**20 > most_bytes
    assert number(r"max_size (\d+)MB\n") * 10**6 > most_bytes
    longest = max(settings.generate_timeout_seconds, MAX_WAIT_SECONDS)
    assert number(r"proxy_read_timeout (\d+)s;") > longest


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    # A run makes files in its own folders, and the repository does not have them.
    made = {"outputs", ".data"}
    named = {
        name
        for name in IN_CODE.findall(page.read_text())
        if (first := name.split("/")[0]) not in made and (ROOT / first).exists()
    }
    missing = {name for name in named if not (ROOT / name).exists()}
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert not {link for link in links if not (page.parent / link).exists()}


def test_the_lifecycle_of_the_page_is_that_of_the_code() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    shown = {}
    for event, sources, target in re.findall(r"^\| (\w+) \| ([\w, -]+) \| (\w+) \|", page, re.M):
        if event in set(Event):
            names = frozenset(name for name in re.split(r",\s*", sources) if name != "-")
            shown[Event(event)] = (frozenset(map(Status, names)), Status(target))
    written = {event: (move.sources, move.target) for event, move in TRANSITIONS.items()}
    assert shown == written


def test_every_setting_that_operations_names_is_one() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    fields = {f"STILLREEL_{field.upper()}" for field in Settings.model_fields}
    beside = test_compose.BESIDE_SETTINGS
    named = set(re.findall(r"STILLREEL_[A-Z0-9_]+", page))
    assert named <= fields | beside
    assert fields <= named
