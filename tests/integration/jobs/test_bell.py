"""The bell: what lies in Redis when it was rung, and in which order it gets there."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis import Redis

from shared.bell import CHANNEL, TASK, Bell, celery_app, queue_name
from shared.engines.parameters import RequestedParameters
from shared.ids import new_id
from shared.lifecycle import Stage
from shared.tables import ANONYMOUS
from tests.support.engines import ScriptedEngine
from tests.support.factory import JobFixture
from tests.support.processes import crew, until
from tests.support.stack import Stack

ENGINE = "scripted"


@pytest.fixture
def url(stack: Stack) -> str:
    return stack.settings().redis_url.get_secret_value()


@pytest.fixture
def valkey(url: str) -> Iterator[Redis]:
    with Redis.from_url(url, decode_responses=True) as valkey:
        yield valkey


@pytest.fixture
def bell(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bell]:
    """A bell that waits for a stalled machine, where the shipped one soon falls silent."""
    monkeypatch.setattr("shared.bell.SOCKET_SECONDS", 20)
    with contextlib.closing(Bell(url)) as bell:
        yield bell


def rung(valkey: Redis, count: int) -> list[dict[str, Any]]:
    """Wait until so many bells lie in Redis, and take them, the oldest first."""
    name = queue_name(ENGINE)
    until(lambda: valkey.llen(name) == count, f"{count} bells wait")
    return [json.loads(str(valkey.rpop(name))) for _ in range(count)]


def ids(message: dict[str, Any]) -> tuple[str, str]:
    """Take out of a message what differs from one to the next; return which they were."""
    task, tag = message["headers"].pop("id"), message["properties"].pop("delivery_tag")
    assert message["headers"].pop("root_id") == task
    assert message["properties"].pop("correlation_id") == task
    message["properties"].pop("reply_to")  # Whose process and thread sent it; nobody replies.
    return task, tag


def test_a_bell_is_what_celery_itself_would_send(url: str, bell: Bell, valkey: Redis) -> None:
    with contextlib.closing(celery_app(url, socket_seconds=20)) as app:
        app.send_task(TASK, queue=queue_name(ENGINE), ignore_result=True)
        [expected] = rung(valkey, 1)
    bell.ring(ENGINE)
    [message] = rung(valkey, 1)
    ids(expected)
    ids(message)
    assert message == expected


def test_no_two_bells_have_the_same_id(bell: Bell, valkey: Redis) -> None:
    for _ in range(20):
        bell.ring(ENGINE)
    names = [ids(message) for message in rung(valkey, 20)]
    assert len({task for task, _ in names}) == len({tag for _, tag in names}) == 20


def test_a_bell_overtakes_what_is_announced(
    url: str, valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.bell.SOCKET_SECONDS", 20)
    with contextlib.closing(Bell(url)) as bell, valkey.monitor() as seen:
        # The first announcement is held up on its way, so that all others meet in the queue.
        valkey.client_pause(20_000, all=False)
        for version in (1, 2, 3):
            bell.publish_change(new_id(), version, new_id())
        bell.ring(ENGINE)
        valkey.client_unpause()
        heard: list[str] = []
        while len(heard) < 4:
            command = seen.next_command()["command"].split()
            if command[1:2] in ([CHANNEL], [queue_name(ENGINE)]):
                heard.append(command[0])
    assert heard.index("LPUSH") < 2


def test_bells_wait_in_redis_while_the_worker_renders(
    stack: Stack, bell: Bell, tmp_path: Path
) -> None:
    """A bell that the worker held meanwhile would be answered by nobody else."""
    values = {"engines": "scripted=tests.support.engines:ScriptedEngine"}
    with (
        crew(stack, tmp_path) as people,
        contextlib.closing(JobFixture(stack.settings(**values))) as on,
    ):
        people.worker(**values)
        job = on.submit(
            spec=ScriptedEngine.spec,
            picture=np.zeros((64, 96, 3), np.uint8),
            asked=RequestedParameters(
                prompt="steps=3000 pause=0.05", width=96, height=64, num_frames=4
            ),
        )
        bell.ring(ENGINE)
        shown = until(
            lambda: (now := on.get(job)).stage is Stage.DENOISING and now.step, "a step was shown"
        )
        bell.ring(ENGINE)
        bell.ring(ENGINE)
        until(lambda: (on.get(job).step or 0) > shown + 40, "the render goes on for seconds")
        assert bell.waiting(ENGINE) == 2
        on.jobs.cancel(job.id, owner_id=ANONYMOUS)
        until(lambda: bell.waiting(ENGINE) == 0, "the bells are answered")
