"""Each shipped engine is tested, can get its weights, and is on the pages that list engines."""

import re
from pathlib import Path
from typing import Final

import pytest

from local.install import MODEL_FREE
from shared.settings import Settings
from tests.contracts.test_engine import SUBJECTS
from worker.engines import BUILT_IN, build, chosen
from worker.weights.catalogue import LAYOUTS, TINY

ROOT: Final = Path(__file__).parents[2]
LICENCES: Final = ROOT / "MODEL_LICENSES.md"
ENGINES: Final = {
    name: build(chosen(name, has_gpu=False)[name], Settings(_env_file=None)) for name in BUILT_IN
}


def families(names: set[str]) -> set[str]:
    """Return the modules of these engines; the engines of one module are one family."""
    return {type(ENGINES[name]).__module__ for name in names & set(ENGINES)}


def rows_of(page: Path) -> dict[str, list[str]]:
    """Return the rows of a page's tables, by each name in backquotes in their first cell."""
    found: dict[str, list[str]] = {}
    for line in page.read_text().splitlines():
        if line.startswith("| `"):
            first, *cells = (cell.strip() for cell in line.strip("| ").split(" | "))
            for name in re.findall(r"`([^`]+)`", first):
                found.setdefault(name, cells)
    return found


def test_every_family_is_held_to_the_contract() -> None:
    assert families({subject.name for subject in SUBJECTS}) == families(set(ENGINES))


def test_every_model_has_weights_to_download_and_a_small_checkpoint() -> None:
    models = {name for name, engine in ENGINES.items() if hasattr(engine, "layout")}
    assert models == LAYOUTS.keys() == TINY.keys()
    # `make run` installs no model library for the other engines.
    assert {*MODEL_FREE} - {"", "auto"} == set(ENGINES) - models


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_is_on_every_page_that_lists_them(engine: str) -> None:
    pages = ("README.md", "README.zh-CN.md", "docs/engines.md", "docs/engines.zh-CN.md")
    assert [page for page in pages if engine not in rows_of(ROOT / page)] == []


@pytest.mark.parametrize("engine", ENGINES)
def test_the_page_of_licences_says_of_an_engine_what_its_spec_says(engine: str) -> None:
    _, commercial_use, _ = rows_of(LICENCES)[engine]
    assert commercial_use.startswith(ENGINES[engine].spec.licence.commercial_use)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_page_of_licences_says_where_the_weights_of_an_engine_are_from(engine: str) -> None:
    heading = rf"^## (?:[\w-]+, )*{engine}\b.*\n((?:(?!## ).*\n)*)"
    (section,) = re.findall(heading, LICENCES.read_text(), re.M)
    named = set(re.findall(r"`([^`]+)`", section))
    for each in LAYOUTS[engine].repositories if engine in LAYOUTS else ():
        assert {each.hub_id, each.revision} <= {*named, "main"}
