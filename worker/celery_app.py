"""The Celery app of one worker; each setting with its reason."""

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog
from celery import signals
from celery.app.amqp import AMQP
from celery.worker.consumer import Consumer
from kombu import Connection
from kombu import Consumer as Queues

from shared.bell import celery_app, queue_name
from shared.logs import set_up
from shared.settings import Settings
from worker.supervisor.worker_config import WorkerConfig

if TYPE_CHECKING:
    from worker.render.context import RenderContext

settings = Settings()
config = WorkerConfig.from_environment()


class NoReceipts(AMQP):
    """Takes bells as they come: to note each in Redis first is a round trip before every job.

    Such a note would bring a bell back that died with its worker. The keeper rings again anyway.
    """

    def TaskConsumer(self, *args: Any, **options: Any) -> Queues:
        return super().TaskConsumer(*args, no_ack=True, **options)


app = celery_app(settings.redis_url.get_secret_value(), socket_seconds=3)
app.amqp_cls = NoReceipts
app.conf.update(
    imports=["worker.tasks"],
    # The model lives in the one child; the parent never touches CUDA, which a fork would break.
    worker_pool="prefork",
    worker_concurrency=1,
    worker_pool_start_method="spawn",
    # A bell held behind a render of minutes would be answered by nobody.
    worker_disable_prefetch=True,
    worker_prefetch_multiplier=1,
    # Postgres holds the job and its lease; a bell that is lost is rung again by the keeper.
    task_acks_late=False,
    # By default a replacement child that is not up in 4 s is killed, again and again.
    worker_proc_alive_timeout=900,
    # A worker outlives any outage of Redis.
    broker_connection_retry=True,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    worker_consumer="worker.celery_app:Listener",
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    task_queues=None,
    task_default_queue=queue_name(next(iter(config.engines))),
)

RECONNECT_SECONDS: Final = 1
REOPEN_SECONDS: Final = 5


class Listener(Consumer):
    """Looks for a lost Redis every second: by default the pauses grow to 30 s."""

    def ensure_connected(self, conn: Connection) -> Connection:
        conn.ensure_connection = partial(
            conn.ensure_connection,
            interval_start=RECONNECT_SECONDS,
            interval_step=0,
            interval_max=RECONNECT_SECONDS,
        )
        return super().ensure_connected(conn)


_open: list["RenderContext"] = []

_log = structlog.get_logger(__name__)


def context() -> "RenderContext":
    """Return this child's render context, made when the child came up."""
    return _open[0]


@signals.setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    set_up(settings, process=config.worker)


@signals.worker_process_init.connect
def _child_came_up(**_: Any) -> None:
    # The parent only hands out bells: it starts without numpy, boto3 and engines.
    from worker.render.context import open_context

    set_up(settings, process=config.worker)
    try:
        _open.append(open_context(settings, config))
    except Exception:
        # Celery would log it and keep a child that can answer no bell.
        _log.exception("worker_did_not_open", next_try_seconds=REOPEN_SECONDS)
        time.sleep(REOPEN_SECONDS)
        os._exit(1)


@signals.worker_process_shutdown.connect
def _child_goes_down(**_: Any) -> None:
    from worker.render.context import close_context

    if _open:
        close_context(_open.pop())
