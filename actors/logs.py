"""What our processes write into their logs: a line of JSON an event, on standard error."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog


def configure_logs(stream: TextIO | None = None) -> None:
    """Set the log up for this process; a stream in place of standard error is for tests.

    A traceback shows where something broke and none of the values there. structlog's default prints every
    local variable, which in ours are tokens and cookies, and takes seconds for it in which nothing else runs.
    JSON keeps what strangers typed from beginning lines of its own.
    """
    # Not what sys.stderr is now: Serve puts something there that walks the stack for every line, and holds
    # a thousand lines back.
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.dev.set_exc_info,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(stream or sys.__stderr__),
    )
