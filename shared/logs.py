"""Structured logs: one line per event, ids as fields, never a secret, a prompt or an image."""

import io
import json
import logging
import sys
from collections.abc import Mapping
from typing import Any, Final, TextIO

import structlog

from shared.repeats import RepeatFilter
from shared.settings import Settings

POOL: Final = "multiprocessing"
"""The logger of billiard, which starts and watches a worker's child."""

NOISY: Final = (
    *("botocore", "boto3", "urllib3", "s3transfer", "PIL", "httpx2", "httpcore2"),
    *("celery", "kombu", POOL),
)
"""Libraries whose lines below a warning help nobody."""


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes lines whatever the locale is, and counts those that the disk or a pipe refuses.

    Python's own handler writes a traceback for each of them, to the same full disk.
    """

    def __init__(self, stream: TextIO) -> None:
        if isinstance(stream, io.TextIOWrapper):
            # JSON is UTF-8 by its standard; a name of a file may still hold any bytes.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
        super().__init__(stream)
        self._refused = 0

    def emit(self, record: logging.LogRecord) -> None:
        record.refused, refused = self._refused, self._refused
        super().emit(record)
        if refused == self._refused:
            self._refused = 0  # The line was written, and said how many were not.

    def handleError(self, record: logging.LogRecord) -> None:
        if isinstance(sys.exc_info()[1], OSError):
            self._refused += 1
        else:
            super().handleError(record)


def set_up(settings: Settings, *, process: str) -> None:
    """Send our own and the libraries' logs to stdout, as JSON lines or for a console."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(serializer=_to_json)
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = LineHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _add_logger_name],
            processors=[
                _add_repeats,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _add_process(process),
                renderer,
            ],
        )
    )
    handler.addFilter(RepeatFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    # Celery's pool keeps its logger from the root's handlers: its lines would be plain text.
    logging.getLogger(POOL).handlers[:] = [handler]
    _look_up_no_more_than_is_shown()
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _look_up_no_more_than_is_shown() -> None:
    """Make no line look up its caller, thread and process: that is a sixth of a line's time.

    The switches are those of the section "Optimization" of Python's logging HOWTO.
    """
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = False
    logging.logMultiprocessing = False
    if sys.version_info >= (3, 12):
        logging.logAsyncioTasks = False


_encoder: Final = json.JSONEncoder(ensure_ascii=False, default=repr)


def _to_json(event: structlog.typing.EventDict, **_: Any) -> str:
    """Return the line by one shared encoder, because json.dumps makes another for each line."""
    return _encoder.encode(event)


def _add_logger_name(
    logger: Any, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    record = event.get("_record")
    if record is not None:
        event["logger"] = record.name
    return event


def _add_repeats(
    logger: Any, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    repeated = getattr(event["_record"], "repeated", 0)
    if repeated:
        event["repeated"] = repeated
    if refused := getattr(event["_record"], "refused", 0):
        event["lines_not_written"] = refused
    return event


def _add_process(process: str) -> structlog.typing.Processor:
    def add(logger: Any, method: str, event: structlog.typing.EventDict) -> Mapping[str, Any]:
        event["process"] = process
        return event

    return add
