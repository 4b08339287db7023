"""Steps of docs/recipes.md: nothing else would notice that a step was forgotten."""

import ast
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from alembic.util import template_to_file

from api.app import create_app
from api.dependencies import known_query
from shared.engines.given_images import GIVEN
from shared.engines.parameters import RenderParameters
from shared.engines.spec import Fit, Honours
from shared.jobs.create import CreateJob
from shared.jobs.view import InputView
from shared.settings import Settings
from shared.tables.columns import metadata
from shared.webhooks.events import EVENTS
from tests.support.document import document
from tests.support.routes import leaves
from worker.keeper.sample_events import SampleMessage, sample

ROOT: Final = Path(__file__).parents[2]

FOREIGN: Final = "/v1/videos"
"""OpenAI's path is among ours; clients of other protocols may send names that we do not know."""

PLAIN: Final = RenderParameters(
    prompt="",
    negative_prompt="",
    resolution=None,
    width=64,
    height=64,
    fit=Fit.CROP,
    num_frames=8,
    fps=8,
    num_inference_steps=1,
    guidance_scale=1,
    seed=1,
)
NEWER: Final = {
    name
    for name, field in RenderParameters.model_fields.items()
    if field.default_factory or not field.is_required()
}
"""The fields that workers of the first release did not know."""

ASKED: Final[dict[str, object]] = {"focus": (0.1, 0.2), "last_frame": True, "keyframes": (3,)}
"""For each field a value that a worker without the field would render wrongly."""

HARMLESS: Final = {"quality", "approximate"}
"""Fields that change nothing by themselves.

The number of steps is in a field of its own, and a spec that knows the sampler chooses it.
"""


def test_a_newer_field_keeps_a_job_from_workers_that_would_ignore_it() -> None:
    assert {*ASKED, *HARMLESS} == NEWER
    assert PLAIN.needs == ()
    for name, value in ASKED.items():
        assert PLAIN.model_copy(update={name: value}).needs == (name,)


def test_each_further_image_is_one_that_an_engine_can_honour() -> None:
    known = {value for name, value in vars(Honours).items() if name.isupper()}
    assert set(GIVEN) <= known


def test_the_call_that_the_page_shows_sends_no_field_that_a_create_does_not_take() -> None:
    code = (ROOT / "api" / "web" / "parts" / "code.js").read_text()
    (left_out,) = re.findall(r"const \{ ([\w, ]+), \.\.\.input \} = job\.input;", code)
    shown = {name for name in InputView.model_fields if name not in CreateJob.model_fields}
    assert shown <= set(left_out.split(", "))


def test_a_test_of_each_event_sends_what_the_event_would() -> None:
    assert {event for event in EVENTS if isinstance(sample(event), SampleMessage)} == set()


def test_a_job_can_be_purged_whatever_refers_to_it() -> None:
    kept = {
        key.parent.table.name
        for table in metadata.tables.values()
        for key in table.foreign_keys
        if key.column.table.name == "jobs" and key.ondelete != "CASCADE"
    }
    # The purge itself deletes the deliveries, before the job.
    assert kept == {"deliveries"}


def test_every_route_of_ours_refuses_a_misspelled_query_and_describes_its_errors() -> None:
    app = create_app(Settings(_env_file=None))
    ours = [
        route
        for route in leaves(app.routes)
        if route.path.startswith("/v1/") and not route.path.startswith(FOREIGN)
    ]
    assert len(ours) > 40
    careless = {
        route.path
        for route in ours
        if known_query not in [each.call for each in route.dependant.dependencies]
    }
    assert careless == set()
    silent = {
        f"{method} {route.path}"
        for route in ours
        for method in route.methods & {"GET", "POST", "PATCH", "DELETE"}
        if "4XX" not in document()["paths"][route.path][method.lower()]["responses"]
    }
    assert silent == set()


def test_a_body_that_a_handler_reads_by_itself_is_described() -> None:
    app = create_app(Settings(_env_file=None))
    readers = [
        route
        for route in leaves(app.routes)
        if vars(getattr(route, "endpoint", None) or route).keys() & {"takes_image", "takes_batch"}
    ]
    assert len(readers) > 5
    assert [
        r.path for r in readers if "requestBody" not in document()["paths"][r.path]["post"]
    ] == []


def test_every_protocol_is_on_the_page_of_clients() -> None:
    page = (ROOT / "docs" / "clients.md").read_text()
    folders = [each.parent.name for each in (ROOT / "api" / "compat").glob("*/__init__.py")]
    assert len(folders) > 1
    prefixes = {name: import_module(f"api.compat.{name}.routes").router.prefix for name in folders}
    assert {name: path for name, path in prefixes.items() if path not in page} == {}


def test_a_new_migration_is_in_our_format(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "message": "A note.",
        "up_revision": "0002",
        "down_revision": "0001",
        **dict.fromkeys(("branch_labels", "depends_on", "upgrades", "downgrades")),
    }
    template, made = ROOT / "alembic" / "script.py.mako", tmp_path / "0002.py"
    template_to_file(str(template), str(made), "utf-8", **values)
    written = made.read_text()
    for command in (["format", "-"], ["check", "--select=I", "--fix", "-"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache"]
        done = subprocess.run(
            [*ruff, "--config", str(ROOT / "pyproject.toml")],
            input=written,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout == written


def test_a_column_that_older_processes_do_not_write_may_be_left_out() -> None:
    added, demanding = 0, set()
    for path in sorted((ROOT / "migrations" / "versions").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr="add_column"), args=[_, ast.Call() as made]):
                    added += 1
                    said = {each.arg: each.value for each in made.keywords}
                    nullable = said.get("nullable", ast.Constant(True))
                    is_given = ast.unparse(nullable) == "True" or "server_default" in said
                    demanding |= set() if is_given else {f"{path.name}:{node.lineno}"}
    assert added > 15
    assert demanding == set()


def test_the_borders_are_checked_at_a_commit_as_by_make_check() -> None:
    config = (ROOT / ".pre-commit-config.yaml").read_text()
    (entry,) = re.findall(r"- id: borders\n.*\n +entry: (.+)", config)
    done = subprocess.run(
        shlex.split(entry),
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
