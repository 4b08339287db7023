"""An operator's own engine is found before a worker starts, or the worker says why not."""

from pathlib import Path

import pytest

from shared.errors import InvalidRequest
from shared.settings import Settings
from worker.__main__ import find_worker_configs


def places(engines: str, folder: Path) -> dict[str, str]:
    settings = Settings(_env_file=None, engines=engines, gpus="none")
    told = find_worker_configs(settings, folder)[0].engines
    return {name: entry.target for name, entry in told.items()}


def test_an_engine_of_ones_own_is_served_beside_those_built_in(tmp_path: Path) -> None:
    found = places("camera, noop=bench.noop:NoopEngine", tmp_path)
    assert (list(found), found["noop"]) == (["camera", "noop"], "bench.noop:NoopEngine")


@pytest.mark.parametrize(
    ("engines", "reason"),
    [
        ("camera,x=no_such_module:X", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("x=json:NoSuchEngine", "AttributeError: module 'json' has no attribute 'NoSuchEngine'"),
    ],
)
def test_an_engine_that_is_not_there_is_refused_with_the_reason(
    engines: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        places(engines, tmp_path)
    name = engines.rpartition(",")[2]
    assert refused.value.message == (
        f"STILLREEL_ENGINES names {name}, which could not be imported: {reason}"
    )


def test_a_folder_that_is_not_there_is_refused_before_a_worker_starts(tmp_path: Path) -> None:
    entry = f"ltx=diffusers:{tmp_path}"
    with pytest.raises(InvalidRequest, match="a folder without a model_index") as refused:
        places(entry, tmp_path)
    assert entry in refused.value.message
    (tmp_path / "model_index.json").write_text("{}")
    assert places(entry, tmp_path) == {"ltx": str(tmp_path)}


def test_an_engine_is_named_as_its_spec_names_it(tmp_path: Path) -> None:
    """Otherwise jobs would be queued under one name, and the worker would look under the other."""
    with pytest.raises(InvalidRequest, match="whose spec has the name noop; write noop="):
        places("quick=bench.noop:NoopEngine", tmp_path)
