"""An engine is loaded once and warmed once, and again after another engine took its place."""

import threading

import pytest

from shared.engines.spec import EngineSpec
from shared.errors import LeaseLost
from shared.settings import Settings
from worker.engines import chosen
from worker.engines.base import OnProgress
from worker.engines.camera.engine import SPEC
from worker.render.loaded_engines import LoadedEngines


class Warming:
    """Records what is done to it; in the middle of warming it asks whether to go on."""

    name = "first"

    def __init__(self, settings: Settings) -> None:
        self.spec: EngineSpec = SPEC.model_copy(update={"name": self.name, "needs_gpu": True})
        self.done: list[str] = []

    def load(self, device: str, on_progress: OnProgress) -> None:
        on_progress(0.5, "loading")
        self.done.append(f"load on {device}")

    def warm(self, on_progress: OnProgress) -> None:
        self.done.append("warm")
        on_progress(0.5, "compiling")
        self.done.append("warm to the end")

    def unload(self) -> None:
        self.done.append("unload")


class Other(Warming):
    name = "second"


HERE = "tests.unit.test_resident"


@pytest.fixture
def resident() -> LoadedEngines:
    entries = chosen(f"first={HERE}:Warming,second={HERE}:Other", has_gpu=True)
    return LoadedEngines(entries, Settings(_env_file=None), device="cuda:0")


def use(resident: LoadedEngines, name: str) -> list[str]:
    """Return what was done to the engine so far; the call must not wait for the engine."""
    engine = resident.use(name, refuse_to_wait, quiet)
    assert isinstance(engine, Warming)
    return engine.done


def test_an_engine_is_warm_before_it_is_used_and_only_once(resident: LoadedEngines) -> None:
    assert use(resident, "first") == ["load on cuda:0", "warm", "warm to the end"]
    assert use(resident, "first") == ["load on cuda:0", "warm", "warm to the end"]


def test_loading_and_compiling_are_told_apart(resident: LoadedEngines) -> None:
    told: list[tuple[str, str]] = []
    resident.use(
        "first",
        lambda fraction, what: told.append(("load", what)),
        lambda fraction, what: told.append(("compile", what)),
    )

    assert told == [("load", "loading"), ("compile", "compiling")]


def test_what_was_stopped_while_warming_is_warmed_by_the_next(resident: LoadedEngines) -> None:
    def lose(fraction: float, what: str) -> None:
        raise LeaseLost("taken")

    with pytest.raises(LeaseLost):
        resident.use("first", quiet, lose)

    assert resident.on_device == "first"
    assert use(resident, "first") == ["load on cuda:0", "warm", "warm", "warm to the end"]


def test_an_engine_whose_place_was_taken_is_warmed_again(resident: LoadedEngines) -> None:
    use(resident, "first")
    use(resident, "second")

    assert use(resident, "first")[-4:] == [
        "unload",
        "load on cuda:0",
        "warm",
        "warm to the end",
    ]


def test_a_preload_warms_too(resident: LoadedEngines) -> None:
    resident.preload()

    assert use(resident, "first") == ["load on cuda:0", "warm", "warm to the end"]
    assert resident.loads == 1


def test_a_preload_takes_no_place_from_a_job_that_came_first(resident: LoadedEngines) -> None:
    use(resident, "second")
    resident.preload()

    assert resident.on_device == "second"


def test_a_worker_says_which_model_it_holds_and_which_would_take_its_place(
    resident: LoadedEngines,
) -> None:
    seen = [resident.residency]
    use(resident, "second")
    seen.append(resident.residency)

    assert [held and (held.engine, held.others) for held in seen] == [None, ("second", ["first"])]
    assert (resident.is_ready("second"), resident.is_ready("first")) == (True, False)


def refuse_to_wait(fraction: float, what: str) -> None:
    assert what != "waiting for the model"


def quiet(fraction: float, what: str) -> None:
    """Report nothing."""


class ForResearch(Warming):
    name = "research"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        licence = SPEC.licence.model_copy(update={"commercial_use": "no"})
        self.spec = self.spec.model_copy(update={"licence": licence})


@pytest.mark.parametrize(
    ("allowed", "served"), [(True, ["first", "research"]), (False, ["first"])]
)
def test_a_licence_without_commercial_use_is_served_only_where_allowed(
    allowed: bool, served: list[str]
) -> None:
    entries = chosen(f"first={HERE}:Warming,research={HERE}:ForResearch", has_gpu=True)
    settings = Settings(_env_file=None, allow_noncommercial_models=allowed)
    assert LoadedEngines(entries, settings, device="cpu").names == served


class Slow(Warming):
    """A model whose load ends when a test lets it."""

    began = threading.Event()
    may_end = threading.Event()

    def load(self, device: str, on_progress: OnProgress) -> None:
        self.began.set()
        assert self.may_end.wait(60)
        super().load(device, on_progress)


class OnCpu(Warming):
    name = "on_cpu"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.spec = self.spec.model_copy(update={"needs_gpu": False})


def test_an_engine_without_a_device_is_used_while_a_model_loads() -> None:
    entries = chosen(f"first={HERE}:Slow,on_cpu={HERE}:OnCpu", has_gpu=True)
    resident = LoadedEngines(entries, Settings(_env_file=None), device="cuda:0")
    loading = threading.Thread(target=resident.preload)
    loading.start()
    try:
        assert Slow.began.wait(60)
        assert use(resident, "on_cpu") == ["load on cpu", "warm", "warm to the end"]
        assert resident.on_device is None
    finally:
        Slow.may_end.set()
        loading.join(60)
    assert resident.on_device == "first"
