"""Decides how long a step that raised waits for its next attempt, and what is recorded and logged about it.

The pause grows with the number of failed attempts. A step without a limit of attempts, whose error comes at once, would
otherwise occupy a worker and fill the log. The first retry starts at once, and `max_retries=3` costs 0.05 seconds.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Final

from workflow.engine.retry import Backoff
from workflow.model.run_view import ErrorInfo
from workflow.model.state import StepState

RETRY_BACKOFF = Backoff(initial=0.05, maximum=60.0)
"""The pause after the second failed attempt in a row, and the longest pause."""

SPREAD: Final = 0.25
"""The largest part by which a pause is shortened, so that steps which failed together do not start together."""

MAX_MESSAGE: Final = 1_000
"""Characters of the message of an exception that are recorded with each further attempt."""

MAX_LOGGED_MESSAGE: Final = 300
"""Characters of the message of an exception in a log line."""


def pause_after(failed_attempts: int, key: str) -> float:
    """Return the seconds between a failed attempt and the next one.

    Args:
        failed_attempts: the number of failed attempts, including the last one.
        key: identifies the step. Each key has another fraction of the spread.
    """
    seed = f"{key} {failed_attempts}".encode("utf-8", "surrogatepass")
    fraction = zlib.crc32(seed) / 2**32
    return RETRY_BACKOFF.delay(failed_attempts - 1) * (1.0 - SPREAD * fraction)


def is_logged(failed_attempts: int) -> bool:
    """Return whether a retry is logged: the first one, and each whose number is a power of two."""
    return failed_attempts > 0 and failed_attempts & (failed_attempts - 1) == 0


def recorded_error(error: ErrorInfo) -> ErrorInfo:
    """Return the part of an error that is stored with each further attempt, so that many attempts need little space."""
    return replace(error, message=error.message[:MAX_MESSAGE], traceback="")


def log_line(workflow_id: str, step: StepState, error: ErrorInfo, pause: float) -> str:
    """Return the log line about a retry.

    Args:
        workflow_id: the workflow of the step.
        step: the step, after its next attempt was recorded.
        error: the error of its last attempt.
        pause: seconds until the next attempt.
    """
    limit = step.spec.options.max_retries
    total = f"of {limit}" if limit != -1 else "(max_retries=-1: no limit)"
    when = f"in {pause:.2g} s" if pause else "now"
    message = " ".join(error.message[:MAX_LOGGED_MESSAGE].split())
    return (
        f"workflow {workflow_id!r}: step {step.spec.step_id!r} raised {error.kind}: {message}; "
        f"attempt {step.attempt} {total} starts {when}"
    )
