"""The faults of a storm by name: each one breaks something and then repairs it."""

import contextlib
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import psutil
from redis import Redis

from shared.errors import DatabaseUnavailable
from tests.chaos.proxy import COMMIT, Proxy
from tests.chaos.ward import SETTINGS, Service
from tests.support.factory import JobFixture
from tests.support.servers import Server
from tests.support.stack import Stack

PAST_THE_LEASE: Final = SETTINGS["lease_seconds"] + 1.5
FROZEN_SECONDS: Final = 5.0
AWAY_SECONDS: Final = 2.0


REFUSALS: Final = (
    ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
    ("REPLICAOF 127.0.0.1 9", "REPLICAOF NO ONE"),
    ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
)
"""Commands that make Valkey refuse writes, and that undo this; its policy is `noeviction`."""


@dataclass(frozen=True)
class Scene:
    """Everything that a fault can act on."""

    stack: Stack
    desk: JobFixture
    people: Service
    postgres: Proxy
    s3: Proxy
    rng: random.Random

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)  # An outage has a fixed length.

    def child(self) -> psutil.Process | None:
        """Return a pool child by chance, from those that render if there are any."""
        with contextlib.suppress(DatabaseUnavailable):
            rows = self.desk.run(
                "SELECT w.pid FROM workers w LEFT JOIN jobs j ON j.status = 'running'"
                " AND split_part(j.worker, '#', 1) = w.name GROUP BY w.pid"
                " ORDER BY count(j.id) > 0 DESC, random()"
            )
            for row in rows:
                child = self.people.child(row["pid"])
                if child is not None:
                    return child
        return None


def _kill(name: str) -> Callable[[Scene], None]:
    return lambda scene: scene.people.program(name).process.kill()


def _drain(name: str) -> Callable[[Scene], None]:
    def act(scene: Scene) -> None:
        program = scene.people.program(name)
        program.process.terminate()
        ends_at = time.monotonic() + 20
        while program.process.poll() is None and time.monotonic() < ends_at:
            scene.pause(0.05)

    return act


def _kill_child(scene: Scene) -> None:
    child = scene.child()
    if child is not None:
        with contextlib.suppress(psutil.Error):
            child.kill()


def _kill_celery_main(scene: Scene) -> None:
    child = scene.child()
    with contextlib.suppress(psutil.Error):
        parent = None if child is None else child.parent()
        if parent is not None:
            parent.kill()


def _freeze_child(scene: Scene) -> None:
    """Stop a child with SIGSTOP until its lease has run out and another may have its job."""
    child = scene.child()
    if child is None:
        return
    with contextlib.suppress(psutil.Error):
        child.suspend()
        scene.pause(PAST_THE_LEASE)
        child.resume()


def _server(
    choose: Callable[[Stack], Server], act: str, seconds: float
) -> Callable[[Scene], None]:
    """Kill or freeze a server, and heal it after a while."""

    def fault(scene: Scene) -> None:
        server = choose(scene.stack)
        getattr(server, act)()
        scene.pause(seconds)
        server.heal()

    return fault


def _wipe_valkey(scene: Scene) -> None:
    """Kill Valkey and delete its data: the service must need nothing of it."""
    scene.stack.valkey.kill()
    shutil.rmtree(scene.stack.servers.folder / "valkey", ignore_errors=True)
    scene.pause(0.5)
    scene.stack.valkey.heal()


def _refuse_writes(scene: Scene) -> None:
    """Make Valkey answer reads and refuse writes, in one of three ways."""
    url = scene.desk.settings.redis_url.get_secret_value()
    refuse, mend = scene.rng.choice(REFUSALS)
    with Redis.from_url(url, socket_timeout=20) as valkey:
        valkey.execute_command(*refuse.split())
        scene.pause(FROZEN_SECONDS)
        valkey.execute_command(*mend.split())


def _end_all(scene: Scene) -> None:
    """Send SIGTERM to all our processes at once, as a service manager does to a whole group."""
    mains = [scene.people.program(name).process for name in ("gateway", "worker", "keeper")]
    processes: list[psutil.Process] = []
    for main in mains:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(main.pid)
            processes += [process, *process.children(recursive=True)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    ends_at = time.monotonic() + 20
    while any(main.poll() is None for main in mains) and time.monotonic() < ends_at:
        scene.pause(0.05)


def _proxy(
    choose: Callable[[Scene], Proxy], act: Callable[[Proxy], Any], seconds: float
) -> Callable[[Scene], None]:
    def fault(scene: Scene) -> None:
        proxy = choose(scene)
        act(proxy)
        scene.pause(seconds)
        proxy.heal()

    return fault


def _dawdle(proxy: Proxy) -> None:
    proxy.delay_seconds = 0.3


FAULTS: Final[dict[str, Callable[[Scene], None]]] = {
    "kill supervisor": _kill("worker"),
    "kill Celery main": _kill_celery_main,
    "kill pool child": _kill_child,
    "kill gateway": _kill("gateway"),
    "kill keeper": _kill("keeper"),
    "kill Valkey, data lost": _wipe_valkey,
    "kill Postgres": _server(lambda s: s.postgres, "kill", 0.5),
    "kill SeaweedFS": _server(lambda s: s.s3, "kill", 0.5),
    "freeze pool child past its lease": _freeze_child,
    "freeze Valkey": _server(lambda s: s.valkey, "freeze", FROZEN_SECONDS),
    "Redis read-only": _refuse_writes,
    "freeze Postgres": _server(lambda s: s.postgres, "freeze", FROZEN_SECONDS),
    "Postgres refuses": _proxy(lambda s: s.postgres, Proxy.refuse, AWAY_SECONDS),
    "Postgres cut after COMMIT": _proxy(lambda s: s.postgres, lambda p: p.cut_after(COMMIT, 3), 1),
    "S3 refuses": _proxy(lambda s: s.s3, Proxy.refuse, AWAY_SECONDS),
    "S3 slow": _proxy(lambda s: s.s3, _dawdle, AWAY_SECONDS),
    "S3 cut half-way": _proxy(lambda s: s.s3, lambda p: p.cut_after_bytes(3000, 5), AWAY_SECONDS),
    "drain worker": _drain("worker"),
    "drain gateway": _drain("gateway"),
    "drain keeper": _drain("keeper"),
    "SIGTERM to all processes": _end_all,
}


ALWAYS: Final = ("Redis read-only", "SIGTERM to all processes")
"""Faults that even the shortest storm has."""


def deck(rng: random.Random, count: int) -> list[str]:
    """Return the names of `count` faults: every kind comes once before any comes again."""
    others = sorted(FAULTS.keys() - ALWAYS)
    rng.shuffle(others)
    names = [*ALWAYS, *others][:count]
    rng.shuffle(names)
    while len(names) < count:
        kinds = sorted(FAULTS)
        rng.shuffle(kinds)
        names += kinds
    return names[:count]
