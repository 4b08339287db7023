"""The engines in memory: each loaded once, one model on the device at a time."""

import threading
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

import structlog

from shared.engines.entries import EngineEntry, EngineKind
from shared.engines.spec import EngineSpec
from shared.engines.weights import WeightsState, WeightsView
from shared.errors import AppError, MissingWeights, ModelLoading
from shared.jobs.residency import Residency
from shared.settings import Settings
from worker.engines import build
from worker.engines.base import OnProgress, VideoEngine, Warms
from worker.weights.shelf import look

LOAD_WAIT_SECONDS: Final = 900.0
WAIT_STEP_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


class LoadedEngines:
    """Engines by name, built at the start, loaded when first used, kept from then on."""

    def __init__(
        self, entries: Mapping[str, EngineEntry], settings: Settings, *, device: str
    ) -> None:
        """`entries` are the engines of the setting, by name; `device` is "cpu" or "cuda:0".

        Engines that the operator's ALLOW_NONCOMMERCIAL_MODELS forbids are left out.
        """
        built = {name: build(entry, settings) for name, entry in entries.items()}
        self._engines = {name: it for name, it in built.items() if _is_allowed(it.spec, settings)}
        self._device = device
        self._settings = settings
        built_in = (each for each in entries.values() if each.kind is EngineKind.BUILT_IN)
        self._built_in = {each.name for each in built_in}
        self._unfound: dict[str, str] = {}  # The messages about weights that could not be loaded.
        # Models wait in line for the device; an engine that needs no device waits only for itself.
        device_lock = threading.Lock()
        self._locks = {
            name: device_lock if self.holds_device(name) else threading.Lock()
            for name in self._engines
        }
        self._loaded: set[str] = set()
        self._warmed: set[str] = set()
        self.on_device: str | None = None
        """The model that has the device now. Other threads read it, so it is one field."""
        self._on_device_since = 0.0
        self.loads = 0
        self.load_seconds = 0.0

    @property
    def specs(self) -> Sequence[EngineSpec]:
        return [engine.spec for engine in self._engines.values()]

    @property
    def names(self) -> Sequence[str]:
        return list(self._engines)

    def items(self) -> Sequence[tuple[str, VideoEngine]]:
        return list(self._engines.items())

    @property
    def honours(self) -> Mapping[str, Sequence[str]]:
        """Return what a job of each engine may need to be claimed here."""
        return {name: engine.spec.honours for name, engine in self._engines.items()}

    def weights(self) -> Mapping[str, WeightsView]:
        """Return the state of each engine's weights, if any; quick, because other threads ask."""
        found = {}
        for name in self._engines:
            # An engine of the operator may have the name of one of ours.
            view = look(name, self._settings) if name in self._built_in else None
            if view is not None:
                said = self._unfound.get(name)
                if said is not None and view.state is WeightsState.MISSING:
                    view = view.model_copy(update={"message": said})
                found[name] = view
        return found

    @property
    def residency(self) -> Residency | None:
        """Return which model has the device, and which engines would have to replace it."""
        resident = self.on_device
        if resident is None:
            return None
        others = [name for name in self._engines if self.holds_device(name) and name != resident]
        lasting = timedelta(seconds=time.monotonic() - self._on_device_since)
        return Residency(resident, lasting, others)

    def is_ready(self, name: str) -> bool:
        """Say whether `use` returns at once: the model is in memory, or the engine has none."""
        return not self.holds_device(name) or (name in self._loaded and name in self._warmed)

    def use(self, name: str, on_load: OnProgress, on_compile: OnProgress) -> VideoEngine:
        """Return the engine, loaded and warmed; another model on the device is unloaded first.

        Raises:
            ModelLoading: another thread's load of it has not ended after 15 minutes.
            MissingWeights, OutOfMemory: as `VideoEngine.load`.
        """
        lock = self._locks[name]
        _wait_for(lock, on_load)
        try:
            return self._ready(name, on_load, on_compile)
        finally:
            lock.release()

    def _ready(self, name: str, on_load: OnProgress, on_compile: OnProgress) -> VideoEngine:
        engine = self._engines[name]
        if name not in self._loaded:
            self._load(name, engine, on_load)
        if name not in self._warmed:
            self._warm(name, engine, on_compile)
        return engine

    def preload(self) -> None:
        """Load the first engine that needs the device, so that the first job need not wait.

        The first job gets any error of it. If a job came first, it has chosen the model.
        """
        name = next((name for name in self._engines if self.holds_device(name)), None)
        if name is None:
            return
        try:
            with self._locks[name]:
                if self.on_device is None:
                    self._ready(name, _unheard, _unheard)
        except AppError as error:
            _log.error("preload_failed", engine=name, code=error.code, reason=error.message)

    def _load(self, name: str, engine: VideoEngine, on_progress: OnProgress) -> None:
        started = time.monotonic()
        if self.holds_device(name) and (other := self.on_device) is not None:
            self.on_device = None
            self._loaded.discard(other)
            self._warmed.discard(other)
            self._engines[other].unload()
        device = self._device if engine.spec.needs_gpu else "cpu"
        try:
            engine.load(device, on_progress)
        except MissingWeights as error:
            self._unfound[name] = error.message
            raise
        self._unfound.pop(name, None)
        self._loaded.add(name)
        self.loads += 1
        seconds = time.monotonic() - started
        self.load_seconds += seconds
        if self.holds_device(name):
            self._on_device_since = time.monotonic()
            self.on_device = name
        _log.info("model_loaded", engine=name, device=device, seconds=round(seconds, 2))

    def _warm(self, name: str, engine: VideoEngine, on_progress: OnProgress) -> None:
        if isinstance(engine, Warms):
            started = time.monotonic()
            engine.warm(on_progress)
            _log.info("model_warm", engine=name, seconds=round(time.monotonic() - started, 2))
        self._warmed.add(name)

    def holds_device(self, name: str) -> bool:
        """Say whether the engine's model must be on the device, where only one fits."""
        return self._engines[name].spec.needs_gpu


def _wait_for(lock: threading.Lock, on_progress: OnProgress) -> None:
    ends_at = time.monotonic() + LOAD_WAIT_SECONDS
    while not lock.acquire(timeout=WAIT_STEP_SECONDS):
        on_progress(0.0, "waiting for the model")
        if time.monotonic() > ends_at:
            raise ModelLoading(
                "the model is still loading after 15 minutes; try again later,"
                " and see the worker's log"
            )


def _unheard(fraction: float, what: str) -> None:
    """Report to nobody, because no job waits yet."""


def _is_allowed(spec: EngineSpec, settings: Settings) -> bool:
    if spec.licence.commercial_use != "no" or settings.allow_noncommercial_models:
        return True
    _log.error(
        "engine_refused",
        engine=spec.name,
        reason=f"{spec.licence.name} forbids commercial use, and ALLOW_NONCOMMERCIAL_MODELS is 0",
    )
    return False
