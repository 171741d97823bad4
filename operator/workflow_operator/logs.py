"""Logging: one line of JSON for each message of structlog (the operator) and of `logging` (kopf and the clients)."""

from __future__ import annotations

import logging
import sys

import structlog

VERBOSE_LOGGERS = ("kopf", "kubernetes", "aiohttp", "urllib3", "asyncio")
"""Loggers whose messages below `warning` are dropped."""


def set_up(level: str, log_format: str) -> None:
    """Write all logs to stdout.

    Args:
        level: the lowest severity that is logged: debug, info, warning or error.
        log_format: `json`, or `text` for people.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # kopf warns for each watched namespace that its thread receives no signals. The main thread handles them.
    logging.getLogger("kopf._core.reactor.running").setLevel(max(logging.ERROR, root.level))
    for name in VERBOSE_LOGGERS:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
