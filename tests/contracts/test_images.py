"""The container images, as far as tests can check them without building them."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.support.composed import ROOT, resolved

pytestmark = pytest.mark.long


def test_the_dockerfile_is_clean() -> None:
    done = _hadolint(ROOT / "Dockerfile")
    assert done.returncode == 0, done.stdout


def test_a_fault_in_the_dockerfile_is_found(tmp_path: Path) -> None:
    faulty = tmp_path / "Dockerfile"
    shutil.copy(ROOT / "Dockerfile", faulty)
    with faulty.open("a") as file:
        file.write("RUN pip install requests\n")
    assert "DL3013" in _hadolint(faulty).stdout


def test_every_image_ends_as_an_ordinary_user() -> None:
    for target in ("gateway", "worker-cpu", "worker"):
        assert [line for line in _stages()[target] if line.startswith("USER")] == [
            "USER 10001:10001"
        ]


def test_torch_is_in_the_worker_image_and_in_no_other() -> None:
    assert "torch" not in _installed_in("gateway")
    assert "torch" not in _installed_in("worker-cpu")
    assert "numpy" in _installed_in("worker-cpu")
    assert {"torch", "diffusers"} <= _installed_in("worker")


def test_torch_is_installed_pinned_and_before_the_models() -> None:
    runs = [line for line in _stages()["model-packages"] if line.startswith("RUN pip")]
    assert runs[0] == "RUN pip install --constraint constraints.txt torch"
    assert "requirements/worker.lock" in runs[1]
    assert re.search(r"^torch==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


def test_the_worker_can_compile_into_a_place_of_its_own() -> None:
    assert "apt-get install --yes --no-install-recommends gcc" in _said_of("worker")
    assert "TORCHINDUCTOR_CACHE_DIR=/compiled" in _said_of("worker")
    assert "gcc" not in _said_of("worker-cpu")


@pytest.mark.parametrize("file", ["Dockerfile", "docker-compose.yml", ".dockerignore"])
def test_no_package_index_is_named(file: str) -> None:
    text = (ROOT / file).read_text()
    inside = r"https?://(127\.0\.0\.1|s3)[:/]"
    assert not re.search(r"https?://", re.sub(inside, "", text))
    assert "--index-url" not in text


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that `COPY . .` copies: the paths that .dockerignore names after a `!`."""
    copied = tmp_path_factory.mktemp("context")
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    for line in lines:
        if not line.startswith("!"):
            continue
        source, target = ROOT / line[1:], copied / line[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy(source, target)
    return copied


def test_the_images_hold_every_module_that_their_containers_start(
    context: Path, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    services = resolved(tmp_path).values()
    ours = [service for service in services if service["image"].startswith("stillreel")]
    started = {service["command"][2] for service in ours}
    started |= {s["healthcheck"]["test"][3] for s in ours if "healthcheck" in s}
    assert {"api", "worker", "worker.keeper", "deploy.check_health", "alembic"} <= started
    program = (
        "import importlib.util, sys\n"
        "for name in sys.argv[1:]:\n"
        "    spec = importlib.util.find_spec(name)\n"
        "    if spec.submodule_search_locations: name += '.__main__'\n"
        "    importlib.import_module(name)\n"
    )
    _python(context, "-c", program, *sorted(started - {"alembic"}))
    assert _python(context, "-m", "alembic", "heads").endswith(" (head)\n")


@pytest.mark.parametrize(
    ("target", "modules"),
    [
        (
            "gateway",
            [
                *("api.__main__", "worker.keeper.__main__", "alembic.config"),
                *("deploy.draw_secrets", "deploy.make_bucket", "deploy.check_health"),
            ],
        ),
        pytest.param(
            "worker-cpu",
            [
                *("worker.__main__", "worker.render.context", "worker.engines.camera.engine"),
                *("celery.bin.worker", "deploy.check_health"),
            ],
            marks=pytest.mark.extended,
        ),
        # This case imports torch, which takes eight seconds of a core.
        pytest.param(
            "worker",
            ["worker.weights.__main__", "worker.engines.i2vgen.weights"],
            marks=pytest.mark.extended,
        ),
    ],
)
def test_each_image_has_the_packages_its_processes_import(
    context: Path, target: str, modules: list[str]
) -> None:
    installed = _installed_in(target)
    missing = [
        module
        for module, packages in packages_distributions().items()
        if not {name.lower().replace("_", "-") for name in packages} & installed
    ]
    program = (
        "import importlib, json, sys\n"
        "sys.modules.update(dict.fromkeys(json.loads(sys.argv[1])))\n"  # None: not importable
        "for name in sys.argv[2:]: importlib.import_module(name)\n"
    )
    _python(context, "-c", program, json.dumps(missing), *modules)


def test_the_images_hold_no_tests_secrets_or_data(context: Path) -> None:
    names = {path.name for path in context.iterdir()}
    assert not names & {"tests", "local", "bench", "docs", ".env", ".git", ".data", ".venv"}


def _hadolint(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("hadolint")), str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@cache
def _stages() -> Mapping[str, list[str]]:
    """Return the lines of each stage of the Dockerfile by its name; `FROM` comes first."""
    stages: dict[str, list[str]] = {}
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("FROM"):
            stages[line.split()[-1]] = [line]
        elif stages:
            stages[list(stages)[-1]].append(line)
    return stages


def _said_of(stage: str) -> str:
    """Return the lines of a stage, after the lines of the stages that it is built on."""
    lines = _stages().get(stage)
    return "" if lines is None else _said_of(lines[0].split()[1]) + "\n".join(lines)


def _installed_in(stage: str) -> set[str]:
    """Return the packages of an image: its locks name all of them."""
    named: set[str] = set()
    while stage in _stages():
        lines = _stages()[stage]
        for file in re.findall(r"--requirement (\S+)", "\n".join(lines)):
            text = (ROOT / file).read_text()
            found = re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)
            named |= {canonicalize_name(name) for name in found}
        named |= {"torch"} if any(line.endswith(" torch") for line in lines) else set()
        stage = lines[0].split()[1]
    return named


def _python(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=110,  # Torch and its libraries take long on a busy machine.
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
