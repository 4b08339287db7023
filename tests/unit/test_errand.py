"""A remote job is asked for once, whatever gets lost on the way."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shared.errors import Drained, LeaseLost, PutOff
from tests.support.elsewhere import FRAMES, Elsewhere, request
from tests.support.providers import small_models
from worker.engines.base import Frames, RenderRequest, Step, Unkept
from worker.engines.remote.engine import RemoteEngine
from worker.engines.remote.errand import MOST_ASKS, Errand
from worker.engines.remote.errors import (
    Away,
    ContentRefused,
    KeyRefused,
    OutcomeUnknown,
    ResultGone,
    TaskFailed,
    TaskVanished,
)
from worker.engines.remote.patience import Patience
from worker.engines.remote.provider import Found, Look, TaskState
from worker.engines.remote.roster import Roster
from worker.engines.remote.task import NAME

QUICK = Patience(first_look=0.001, longest_look=0.002, elsewhere=0.0, hold=0.01, settling=0)
SETTLING = replace(QUICK, settling=60)
GONE = TaskVanished("no such task")
LOST = Away("no answer within 60 s")
BUSY = Away("it has no room", retry_after_seconds=7, is_refusal=True)


def quiet(step: Step) -> None:
    pass


def run(
    kept: Unkept, *places: Elsewhere, on_step: Any = quiet, patience: Patience = QUICK
) -> tuple[Frames, RenderRequest]:
    asked = request(kept)
    chunks: Sequence[Frames] = list(Errand(asked, on_step, Roster(places), patience).frames())
    return np.concatenate(chunks), asked


def test_a_clip_is_asked_for_once_and_comes_whole() -> None:
    place = Elsewhere()
    frames, _ = run(Unkept(), place)
    assert frames.shape == (FRAMES, 64, 96, 3)
    assert (place.count("create"), place.count("download")) == (1, 1)


class Died(BaseException):
    """Stands for the end of a process: none of its code runs after this."""


def dying(number: int) -> Any:
    """Return a callback that dies at its n-th call."""
    left = [number]

    def on_step(step: Step) -> None:
        left[0] -= 1
        if not left[0]:
            raise Died

    return on_step


def test_whichever_step_an_attempt_died_at_the_next_one_asks_for_nothing_anew() -> None:
    for number in range(2, 30):
        kept, place = Unkept(), Elsewhere()
        try:
            run(kept, place, on_step=dying(number))
        except Died:
            run(kept, place)
            assert place.count("create") == 1, f"it died at step {number}"
        else:
            break
    assert number > 4, "it died at several steps"


def test_a_paid_create_whose_answer_was_lost_is_not_sent_twice() -> None:
    kept, place = Unkept(), Elsewhere()
    place.trouble["create"] = [LOST]
    for _ in range(2):
        with pytest.raises(OutcomeUnknown, match="may have begun and charged"):
            run(kept, place)
    assert place.count("create") == 1


def test_what_a_lost_create_made_is_taken_up_where_the_place_can_look_it_up() -> None:
    kept, place = Unkept(), Elsewhere()

    def die() -> None:
        raise Died

    place.after_create = die
    with pytest.raises(Died):
        run(kept, place)
    place.found = Found("first-1", is_known=True)
    run(kept, place)
    assert place.count("create") == 1


def test_a_place_that_says_it_has_no_such_task_is_asked_again() -> None:
    kept, place = Unkept(), Elsewhere()
    place.trouble["create"], place.found = [LOST], Found(is_known=True)
    run(kept, place)
    assert [key for name, key in place.asked if name == "create"] == ["job_1-1", "job_1-1"]


def test_a_lookup_that_is_not_answered_waits_in_place_of_failing() -> None:
    kept, place = Unkept(), Elsewhere()
    place.trouble = {"create": [LOST], "find": [LOST]}
    with pytest.raises(PutOff):
        run(kept, place)
    place.found = Found("first-1", is_known=True)
    place.tasks["first-1"] = list(place.looks)
    run(kept, place)
    assert place.count("create") == 1


def test_a_refused_create_is_no_lost_one() -> None:
    kept, place = Unkept(), Elsewhere()
    place.trouble["create"] = [BUSY, BUSY]
    for _ in range(2):
        with pytest.raises(PutOff) as caught:
            run(kept, place)
        assert caught.value.retry_after_seconds == 7
    run(kept, place)
    assert place.count("create") == 3
    assert len(place.tasks) == 1


def test_content_that_was_refused_is_an_end_of_its_own() -> None:
    kept, place = Unkept(), Elsewhere()
    place.trouble["create"] = [ContentRefused("the image was refused")]
    with pytest.raises(ContentRefused):
        run(kept, place)


def test_a_task_that_failed_there_fails_with_its_own_words_and_is_closed() -> None:
    kept, place = Unkept(), Elsewhere()
    place.looks = [Look(TaskState.FAILED, error=TaskFailed("out of memory"))]
    with pytest.raises(TaskFailed, match="out of memory"):
        run(kept, place)
    assert kept.read(NAME)["reached"] == "done"  # type: ignore[index]


def test_a_paid_task_that_vanished_is_not_bought_again() -> None:
    kept, place = Unkept(), Elsewhere()
    place.trouble["look"] = [TaskVanished("no such task")]
    with pytest.raises(TaskVanished):
        run(kept, place)
    assert place.count("create") == 1


def test_a_task_that_was_just_bought_is_asked_for_again_before_it_counts_as_vanished() -> None:
    place = Elsewhere()
    place.trouble = {"look": [GONE, GONE], "download": [GONE]}
    run(Unkept(), place, patience=SETTLING)
    assert (place.count("create"), place.count("look"), place.count("download")) == (1, 4, 2)


def test_the_next_attempt_knows_that_a_task_is_young() -> None:
    kept, place = Unkept(), Elsewhere()
    with pytest.raises(Died):
        run(kept, place, on_step=dying(3))
    place.trouble["look"] = [GONE]
    run(kept, place, patience=SETTLING)
    assert place.count("create") == 1


@pytest.mark.parametrize("age", [61, -61, None])
def test_an_older_task_has_vanished_at_once(age: int | None) -> None:
    """A task from a clock that is far ahead is not young; an earlier release stored no time."""
    kept, place = Unkept(), Elsewhere()
    with pytest.raises(Died):
        run(kept, place, on_step=dying(3))
    made_at = None if age is None else time.time() - age
    kept.write(NAME, {**(kept.read(NAME) or {}), "made_at": made_at})
    place.trouble["look"] = [GONE]
    with pytest.raises(TaskVanished):
        run(kept, place, patience=SETTLING)


def test_the_operators_own_server_that_forgot_a_task_is_asked_again_at_once() -> None:
    place = Elsewhere(is_paid=False)
    place.trouble["look"] = [GONE]
    run(Unkept(), place, patience=SETTLING)
    assert place.count("create") == 2


def test_a_cancel_of_a_task_that_is_not_known_yet_is_tried_again() -> None:
    kept, place = Unkept(), Elsewhere()
    run(kept, place)
    task = kept.read(NAME)
    assert task is not None
    engine = Engine(place)
    place.trouble["cancel"] = [GONE]
    assert engine.end_elsewhere(task) is None
    assert engine.end_elsewhere(task) == {"reached": True, "may_still_cost": False}
    place.trouble["cancel"] = [GONE]
    old = {**task, "made_at": time.time() - 61}
    assert engine.end_elsewhere(old) == {"reached": False}


class Engine(RemoteEngine):
    """An engine with one place; the tests use only its way to end a task."""

    def __init__(self, place: Elsewhere) -> None:
        super().__init__(small_models.specs()["gen"], [place], told={})


def test_an_own_task_that_vanished_is_asked_for_elsewhere_first() -> None:
    first, second = (Elsewhere(name, is_paid=False) for name in ("first", "second"))
    first.trouble["look"] = [TaskVanished("no such task")]
    run(Unkept(), first, second)
    assert (first.count("create"), second.count("create")) == (1, 1)


def test_an_own_place_that_is_away_is_passed_over_for_another() -> None:
    first, second = (Elsewhere(name, is_paid=False) for name in ("first", "second"))
    first.trouble["look"] = [LOST] * 100
    run(Unkept(), first, second)
    assert (first.count("create"), second.count("create")) == (1, 1)


def test_own_places_that_do_not_answer_are_asked_again_as_long_as_it_takes() -> None:
    kept, place = Unkept(), Elsewhere(is_paid=False)
    place.trouble["create"] = [*[LOST] * 2 * MOST_ASKS]
    for _ in range(2 * MOST_ASKS):
        with pytest.raises(PutOff):
            run(kept, place)
    run(kept, place)
    assert len({key for name, key in place.asked if name == "create"}) == 1


def test_a_worker_that_always_dies_while_it_asks_does_not_ask_for_ever() -> None:
    kept, place = Unkept(), Elsewhere(is_paid=False)

    def die() -> None:
        raise Died

    place.after_create = die
    for _ in range(MOST_ASKS):
        with pytest.raises(Died):
            run(kept, place)
    with pytest.raises(TaskVanished):
        run(kept, place)
    assert place.count("create") == MOST_ASKS


def test_own_places_that_lose_every_task_are_not_asked_for_ever() -> None:
    place = Elsewhere(is_paid=False)
    place.trouble["look"] = [TaskVanished("no such task")] * 100
    with pytest.raises(TaskVanished):
        run(Unkept(), place)
    assert place.count("create") == MOST_ASKS


def test_a_place_that_is_away_for_long_has_its_job_wait_in_the_queue_and_keeps_its_task() -> None:
    kept, place = Unkept(), Elsewhere()
    place.trouble["look"] = [LOST] * 1000
    with pytest.raises(PutOff):
        run(kept, place)
    place.trouble.clear()
    run(kept, place)
    assert place.count("create") == 1


def test_a_place_that_asks_for_a_long_pause_gets_it_and_the_job_waits_in_the_queue() -> None:
    kept, place = Unkept(), Elsewhere()
    place.trouble["look"] = [Away("it is overloaded", retry_after_seconds=1800)]
    began = time.monotonic()
    with pytest.raises(PutOff) as caught:
        run(kept, place, patience=Patience())
    assert caught.value.retry_after_seconds == 1800
    assert time.monotonic() - began < 60, "nobody sleeps here for so long"
    run(kept, place)
    assert place.count("create") == 1


def test_a_place_that_is_away_when_a_fresh_link_is_asked_for_is_waited_for() -> None:
    kept, place = Unkept(), Elsewhere()
    place.trouble["download"] = [ResultGone("expired")]
    place.trouble["look"] = [None, None, LOST, KeyRefused("the key was not taken")]
    with pytest.raises(PutOff):
        run(kept, place)
    run(kept, place)
    assert (place.count("create"), place.count("download")) == (1, 2)


@pytest.mark.parametrize("is_paid", [True, False])
def test_a_place_that_is_away_for_an_hour_costs_nothing_but_time(is_paid: bool) -> None:
    """An hour has 20 attempts: each waits two minutes for the place, and then one in the queue."""
    kept, place = Unkept(), Elsewhere(is_paid=is_paid)
    place.looks = [Look(TaskState.RENDERING, progress=0.5)]
    with pytest.raises(Died):
        run(kept, place, on_step=dying(6))
    for _ in range(20):
        place.trouble["look"] = [LOST] * 1000
        with pytest.raises(PutOff):
            run(kept, place)
    place.trouble.clear()
    place.tasks["first-1"] = [Look(TaskState.DONE)]
    run(kept, place)
    assert place.count("create") == 1


def test_a_key_that_is_refused_while_a_task_goes_on_loses_no_task() -> None:
    kept, place = Unkept(), Elsewhere()
    place.trouble["look"] = [KeyRefused("the key was not taken")]
    with pytest.raises(PutOff):
        run(kept, place)
    run(kept, place)
    assert place.count("create") == 1


def test_an_attempt_that_only_fetches_writes_nothing_so_that_its_failures_count() -> None:
    class Counted(Unkept):
        writes = 0

        def write(self, name: str, value: Any, *, is_open: bool = False) -> None:
            self.writes += 1
            super().write(name, value)

    kept, place = Counted(), Elsewhere()
    place.looks = [Look(TaskState.DONE, facts={"cost_usd": 0.25})]
    place.trouble["download"] = [ResultGone("expired")] * 4
    with pytest.raises(ResultGone):
        run(kept, place)
    before = kept.writes
    with pytest.raises(ResultGone):
        run(kept, place)
    assert kept.writes == before > 0


def test_an_expired_link_is_asked_for_anew_once() -> None:
    kept, place = Unkept(), Elsewhere()
    place.trouble["download"] = [ResultGone("expired")]
    run(kept, place)
    assert (place.count("create"), place.count("download")) == (1, 2)
    place.trouble["download"] = [ResultGone("expired")] * 2
    with pytest.raises(ResultGone):
        run(kept, place)


class Lost(Unkept):
    """The notes of an attempt that loses its lease while its create is answered."""

    def write(self, name: str, value: Any, *, is_open: bool = False) -> None:
        if is_open:
            raise LeaseLost("attempt 1 no longer owns the job")
        super().write(name, value)


def test_a_task_that_was_made_when_the_lease_was_lost_is_ended_at_once() -> None:
    place = Elsewhere()
    with pytest.raises(LeaseLost):
        run(Lost(), place)
    assert place.count("cancel") == 1


@pytest.mark.parametrize("trouble", [GONE, LOST])
def test_it_is_tried_again_to_end_a_task_that_was_made_when_the_lease_was_lost(
    trouble: Exception,
) -> None:
    place = Elsewhere()
    place.trouble["cancel"] = [trouble, trouble]
    with pytest.raises(LeaseLost):
        run(Lost(), place)
    assert place.count("cancel") == 3


def test_a_drain_is_noticed_between_looks_and_the_task_goes_on() -> None:
    kept, place = Unkept(), Elsewhere()

    def drain(step: Step) -> None:
        if place.count("look"):
            raise Drained("the worker is stopping")

    with pytest.raises(Drained):
        run(kept, place, on_step=drain)
    run(kept, place)
    assert (place.count("create"), place.count("cancel")) == (1, 0)
