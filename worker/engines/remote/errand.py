"""One job's way through servers that render: asked once, watched, downloaded."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog

from shared.crashpoints import crashpoint
from shared.errors import DatabaseUnavailable, LeaseLost, PutOff, RenderFailed
from shared.lifecycle import Stage
from worker.engines.base import Frames, OnStep, RenderRequest, Step
from worker.engines.remote.conform import conformed
from worker.engines.remote.decoding import decoding_turn
from worker.engines.remote.errors import (
    Away,
    KeyRefused,
    OutcomeUnknown,
    ResultGone,
    TaskFailed,
    TaskVanished,
)
from worker.engines.remote.patience import NO_ANSWER, Absence, Patience, Settling
from worker.engines.remote.provider import (
    COST_USD,
    Created,
    Found,
    Look,
    Provider,
    TaskState,
)
from worker.engines.remote.roster import Roster
from worker.engines.remote.task import Reached, Task

COST: Final = "cost"
"""The name of the checkpoint that `shared/jobs/usage.py` reads."""

MOST_ASKS: Final = 5
"""How often a job is sent again to the operator's own back ends, over all its attempts."""

KEEP_SECONDS: Final = 120.0
"""How long to try to store a task's id while the database is away, because nothing else knows
it."""

MOST_END_TRIES: Final = 4
"""How often to try to end a task that was made after its job was lost."""

_log = structlog.get_logger(__name__)


class Errand:
    """Brings the clip of one request, whichever attempt asked for it."""

    def __init__(
        self, request: RenderRequest, on_step: OnStep, roster: Roster, patience: Patience
    ) -> None:
        self._request = request
        self._on_step = on_step
        self._roster = roster
        self._patience = patience
        self._progress = self._received = 0.0

    def frames(self) -> Iterator[Frames]:
        """Yield the clip's frames.

        Raises:
            PutOff: no server takes the job or answers now.
            RenderFailed: those of `Provider`; OutcomeUnknown if a create's answer was lost.
        """
        with tempfile.TemporaryDirectory(prefix="stillreel-remote-") as folder:
            path = Path(folder, "clip.mp4")
            self._fetch(path)
            asked = self._request.parameters
            with decoding_turn(lambda: self._say(Stage.DOWNLOADING, 1.0)):
                count = 0
                for chunk in conformed(path, asked, self._request.notes):
                    yield chunk
                    count += len(chunk)
                    self._on_step(Step(count, asked.num_frames, Stage.DECODING))

    def _fetch(self, into: Path) -> None:
        self._on_step(Step(1, 2, Stage.SUBMITTING))
        task = self._take_up()
        self._on_step(Step(2, 2, Stage.SUBMITTING))
        while True:
            provider = self._roster.at(task.place)
            try:
                with self._roster.busy(provider):
                    task, look = self._watch(provider, task)
                    self._download(provider, task, look, into)
                return
            except TaskVanished as error:
                if provider.is_paid or task.asked >= MOST_ASKS:
                    self._close(task)
                    raise
                _log.warning("remote_asked_again", place=task.place, reason=error.message)
                key = self._key(task.asked + 1)
                task = self._ask(task.asked + 1, key, but=provider.name)

    def _take_up(self) -> Task:
        """Return the task of an earlier attempt, or ask for one."""
        task = Task.read(self._request.checkpoint)
        if task is None:
            return self._ask(1, self._key(1))
        if task.reached is Reached.REFUSED:
            return self._ask(task.asked, task.key)
        if task.id is None:
            return self._look_up(task)
        if not self._roster.knows(task.place):
            return self._without_its_place(task)
        return task

    def _key(self, asked: int) -> str:
        return f"{self._request.job}-{asked}"

    def _look_up(self, task: Task) -> Task:
        """Find out whether a create whose answer was not stored made a task."""
        if not self._roster.knows(task.place):
            return self._without_its_place(task)
        provider = self._roster.at(task.place)
        try:
            found = provider.find(self._request, task.key)
        except (Away, KeyRefused) as error:
            if provider.is_paid:
                raise PutOff(NO_ANSWER, retry_after_seconds=self._patience.again) from error
            found = Found()
        _log.warning(
            "remote_looked_up", place=task.place, task=found.task, is_known=found.is_known
        )
        if found.task is not None:
            return task.made(found.task).keep(self._request.checkpoint)
        if provider.is_paid and not found.is_known:
            raise self._unknown()
        if task.asked >= MOST_ASKS:
            raise TaskVanished(
                f"the render was asked for {task.asked} times, and no answer came back"
            )
        return self._ask(task.asked + 1, task.key)

    def _without_its_place(self, task: Task) -> Task:
        if self._roster.is_paid:
            raise self._unknown()
        _log.warning("remote_place_is_gone", place=task.place)
        return self._ask(task.asked + 1, self._key(task.asked + 1))

    def _unknown(self) -> OutcomeUnknown:
        return OutcomeUnknown(
            "the provider may have begun and charged the clip, but its answer was lost and cannot"
            " be looked up; the clip is not bought twice"
        )

    def _ask(self, asked: int, key: str, *, but: str | None = None) -> Task:
        """Ask servers in turn until one takes the job; store the intent before each request."""
        reason: Away | None = None
        for provider in self._roster.in_turn(but=but):
            task = Task(provider.name, key, asked).keep(self._request.checkpoint)
            crashpoint("remote_intended")
            try:
                created = provider.create(self._request, key)
            except Away as error:
                self._roster.rest(provider, error.retry_after_seconds)
                _log.warning("remote_away", place=provider.name, reason=error.message)
                if provider.is_paid and not error.is_refusal:
                    return self._look_up(task)
                # On the operator's own server a useless render costs only time.
                task.refused().keep(self._request.checkpoint)
                reason = error
                continue
            except RenderFailed:
                task.refused().keep(self._request.checkpoint)
                raise
            crashpoint("remote_made")
            return self._keep_made(provider, task, created)
        raise PutOff(
            "no server of this model takes a job now; the job is sent again later",
            retry_after_seconds=(reason and reason.retry_after_seconds) or self._patience.again,
        )

    def _keep_made(self, provider: Provider, task: Task, created: Created) -> Task:
        """Store the id: at once, or, while the database is away, as soon as possible."""
        made = task.made(created.task)
        for name, value in created.facts.items():
            self._request.notes.fact(name, value)
        ends_at = time.monotonic() + KEEP_SECONDS
        while True:
            try:
                made.keep(self._request.checkpoint)
            except DatabaseUnavailable:
                if time.monotonic() > ends_at:
                    raise
                time.sleep(self._patience.first_look)
            except LeaseLost:
                # Nothing else knows the task, so nothing else could end it.
                _end_quietly(provider, created.task, self._patience.longest_look)
                raise
            else:
                _log.info("remote_made", place=provider.name, task=created.task)
                crashpoint("remote_kept")
                return made

    def _watch(self, provider: Provider, task: Task) -> tuple[Task, Look]:
        """Return the finished task, and the server's last report about it."""
        assert task.id is not None
        pause = self._patience.first_look
        away = Absence(self._patience, others=self._roster.has_others(provider))
        settled = Settling(self._patience, task, is_paid=provider.is_paid)
        self._say(Stage.RENDERING_ELSEWHERE, self._progress)
        while True:
            try:
                look = provider.look(task.id)
            except TaskVanished as error:
                settled.note(error)
            except (Away, KeyRefused) as error:
                pause = max(pause, away.note(error, task.place))
            else:
                away.end()
                self._keep_cost(look)
                if look.state is TaskState.DONE:
                    crashpoint("remote_looked")
                    self._say(Stage.RENDERING_ELSEWHERE, 1.0)
                    return self._done(task, look), look
                self._check(task, look)
                if look.progress is not None:
                    self._progress = max(self._progress, min(look.progress, 1.0))
                pause = look.again_seconds or pause
            self._sleep(pause, Stage.RENDERING_ELSEWHERE, self._progress)
            pause = min(pause * 1.5, self._patience.longest_look)

    def _keep_cost(self, look: Look) -> None:
        """Store an ended task's cost before the job ends, because that end settles its budget."""
        has_ended = look.state not in (TaskState.WAITING, TaskState.RENDERING)
        # Only once: storing progress sets the job's failures to zero, which must not go on for
        # ever.
        if has_ended and COST_USD in look.facts and self._request.checkpoint.read(COST) is None:
            self._request.checkpoint.write(COST, {COST_USD: look.facts[COST_USD]})

    def _check(self, task: Task, look: Look) -> None:
        if look.state in (TaskState.FAILED, TaskState.CANCELED):
            self._close(task)
            raise look.error or TaskFailed(
                "the server that rendered it ended it"
                if look.state is TaskState.CANCELED
                else "the server that rendered it failed without a reason"
            )

    def _done(self, task: Task, look: Look) -> Task:
        for name, value in look.facts.items():
            self._request.notes.fact(name, value)
        return self._close(task)

    def _close(self, task: Task) -> Task:
        """Note, once, that nothing runs on another server any longer."""
        if task.reached is Reached.DONE:
            return task
        return task.done().keep(self._request.checkpoint)

    def _download(self, provider: Provider, task: Task, look: Look, into: Path) -> None:
        assert task.id is not None
        away = Absence(self._patience, others=False)
        settled = Settling(self._patience, task, is_paid=provider.is_paid)
        found: Look | None = look
        is_fresh = False
        self._received = 0.0
        while True:
            self._say(Stage.DOWNLOADING, self._received)
            try:
                found = found or provider.look(task.id)
                provider.download(task.id, found, into, self._note_bytes)
                crashpoint("remote_downloaded")
                return
            except ResultGone:
                if is_fresh:
                    raise
                found, is_fresh = None, True  # Another poll may return a link that works.
            except TaskVanished as error:
                settled.note(error)
                self._sleep(self._patience.first_look, Stage.DOWNLOADING, self._received)
            except (Away, KeyRefused) as error:
                pause = max(self._patience.first_look, away.note(error, task.place))
                self._sleep(pause, Stage.DOWNLOADING, self._received)

    def _note_bytes(self, received: int, total: int | None) -> None:
        crashpoint("remote_downloading")
        self._received = max(self._received, received / total if total else 0.0)
        self._say(Stage.DOWNLOADING, self._received)

    def _say(self, stage: Stage, share: float) -> None:
        """Give a sign of life; without news the last report is repeated."""
        self._on_step(Step(max(1, round(100 * min(share, 1.0))), 100, stage))

    def _sleep(self, seconds: float, stage: Stage, share: float) -> None:
        """Sleep, and give a sign of life each second, so that a drain or a cancel is noticed."""
        ends_at = time.monotonic() + seconds
        while (left := ends_at - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
            self._say(stage, share)


def _end_quietly(provider: Provider, task: str, pause_seconds: float) -> None:
    """End a task that nobody here waits for any longer; try a few times."""
    for tries_left in reversed(range(MOST_END_TRIES)):
        try:
            may_cost = provider.cancel(task)
        except (Away, RenderFailed) as error:
            reason = error.message
        else:
            _log.warning(
                "remote_canceled", place=provider.name, task=task, may_still_cost=may_cost
            )
            return
        if tries_left:
            time.sleep(pause_seconds)
    _log.error("remote_not_canceled", place=provider.name, task=task, reason=reason)
