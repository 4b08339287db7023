"""The common part of engines that render on other servers: a spec, servers behind `Provider`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import structlog

from shared.engines.spec import EngineSpec
from shared.errors import RenderFailed
from worker.engines.base import Frames, OnProgress, OnStep, Plan, RenderRequest
from worker.engines.remote.errand import Errand
from worker.engines.remote.errors import Away, TaskVanished
from worker.engines.remote.patience import Patience
from worker.engines.remote.provider import Provider
from worker.engines.remote.roster import Roster
from worker.engines.remote.task import Task

_log = structlog.get_logger(__name__)


class RemoteEngine:
    """Renders a job at one of its servers, once, whatever dies meanwhile.

    One process renders many jobs at once with it: `render` runs in several threads.
    """

    patience = Patience()

    def __init__(
        self,
        spec: EngineSpec,
        providers: Sequence[Provider],
        *,
        told: Mapping[str, str | int | float | bool],
    ) -> None:
        """`told` is for the plan of every job: the provider's and the model's names."""
        self.spec = spec
        self._roster = Roster(providers)
        self._told = told

    def load(self, device: str, on_progress: OnProgress) -> None:
        """Do nothing, because the model is on another server."""

    def plan(self, request: RenderRequest) -> Plan:
        return {"mode": "elsewhere", **self._told}

    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        yield from Errand(request, on_step, self._roster, self.patience).frames()

    def unload(self) -> None:
        """Do nothing, because nothing was loaded."""

    def end_elsewhere(self, checkpoint: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """End the remote render of a job that has ended here; None asks to be called again.

        It returns what is known about the end: `reached`, and whether it `may_still_cost`.
        """
        task = Task.of(checkpoint)
        if task.id is None or not self._roster.knows(task.place):
            return {"reached": False}
        try:
            may_cost = self._roster.at(task.place).cancel(task.id)
        except Away as error:
            _log.warning("remote_not_canceled", place=task.place, reason=error.message)
            return None
        except RenderFailed as error:
            _log.warning("remote_not_canceled", place=task.place, reason=error.message)
            is_young = isinstance(error, TaskVanished) and task.settles_in(self.patience.settling)
            return None if is_young else {"reached": False}
        _log.info("remote_canceled", place=task.place, task=task.id, may_still_cost=may_cost)
        return {"reached": may_cost is not None, "may_still_cost": may_cost is not False}
