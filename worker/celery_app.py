"""The Celery app of one worker; each setting with its reason."""

import os
import signal
import time
from typing import TYPE_CHECKING, Any, Final

import structlog
from celery import Celery, signals

from shared.logs import set_up
from shared.settings import read_settings
from worker.bells import QUEUE
from worker.supervisor.worker_config import WorkerConfig

if TYPE_CHECKING:
    from worker.render.render_loop import RenderLoop

settings = read_settings()
config = WorkerConfig.from_environment()

app = Celery("stillreel", set_as_current=False)
app.conf.update(
    imports=["worker.tasks"],
    # Celery itself does not use Redis: `bells` takes and checks its messages.
    broker_url="bells://localhost",
    broker_transport="worker.bells:Transport",
    broker_transport_options={
        "redis_url": settings.redis_url.get_secret_value(),
        "engines": list(config.engines),
        "slot": config.heartbeat_path,
    },
    accept_content=["json"],
    task_ignore_result=True,
    # The model lives in the one child; the parent never touches CUDA, which a fork would break.
    worker_pool="prefork",
    worker_concurrency=1,
    worker_pool_start_method="spawn",
    # Postgres holds the job and its lease; nothing depends on a bell.
    task_acks_late=False,
    # By default a replacement child that has not started in 4 s is killed, again and again.
    worker_proc_alive_timeout=900,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    task_default_queue=QUEUE,
)

REOPEN_SECONDS: Final = 5

_running: list["RenderLoop"] = []

_log = structlog.get_logger(__name__)


def render_loop() -> "RenderLoop":
    """Return this child's render loop, started when the child started."""
    return _running[0]


@signals.setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    set_up(settings, process=config.worker)


@signals.worker_process_init.connect
def _child_came_up(**_: Any) -> None:
    # The parent only passes bells on, so it starts without numpy, boto3 and engines.
    from worker.render.context import open_context
    from worker.render.render_loop import RenderLoop

    # A signal to all processes at once is meant for the supervisor, which drains; if this process
    # died here, the render would be lost. Celery leaves an ignored signal alone.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    set_up(settings, process=config.worker)
    try:
        _running.append(RenderLoop(open_context(settings, config)))
    except Exception:
        # Otherwise Celery would log it and keep a child that can answer no bell.
        _log.exception("worker_did_not_open", next_try_seconds=REOPEN_SECONDS)
        time.sleep(REOPEN_SECONDS)
        os._exit(1)


@signals.worker_process_shutdown.connect
def _child_goes_down(**_: Any) -> None:
    """Drain first, because Celery takes a child for idle if it renders outside of a task."""
    if _running:
        _running.pop().drain()
