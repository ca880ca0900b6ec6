"""Logs: one JSON object a line, on standard output, with the request's id and without personal data."""

import logging
import sys
from typing import BinaryIO, TextIO, cast

import orjson
import structlog
from django.conf import settings


def configure(stream: TextIO | None = None, level: str | None = None) -> None:
    """Send structlog and the standard library to the same lines: to `stream`, from `level` on."""
    stream = stream or sys.stdout
    level = level or settings.LOG_LEVEL
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.BytesLoggerFactory(cast("BinaryIO", stream.buffer)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # Celery tells of every task it receives; a sweep comes every second.
    logging.getLogger("celery").setLevel(max(logging.WARNING, root.level))
    # Django tells of every answer from 400 on, with its path; the request's own line says so already, and a sold-out
    # sale gives such answers by the thousand. What is left are the tracebacks of what nobody foresaw.
    requests = logging.getLogger("django.request")
    requests.setLevel(max(logging.ERROR, root.level))
    requests.addFilter(_has_traceback)


def _json(line: object, **_: object) -> bytes:
    return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS)


def _has_traceback(record: logging.LogRecord) -> bool:
    return record.exc_info is not None
