"""Describes exceptions as text, for readers that must not unpickle anything."""

from __future__ import annotations

import traceback
from typing import Any, Final

from workflow.log import values
from workflow.model.run_view import ErrorInfo

TRACEBACK_LINES: Final = 30
"""Lines of a traceback that are kept, from the end, so that every record stays small."""

MAX_LINE_LENGTH: Final = 1_000
"""Characters of a line of a traceback that are kept."""

CALLERS: Final = frozenset(
    {
        "workflow.engine.retry",
        "workflow.engine.worker.event_host",
        "workflow.engine.worker.execution",
        "workflow.engine.worker.run_values",
        "workflow.event_listener",
    }
)
"""Modules that call user code. Their frames are removed from the top of a traceback."""


def describe(error: BaseException, step_id: str = "") -> ErrorInfo:
    """Return an exception as text, with the part of its traceback that starts in the user's code."""
    lines = traceback.format_exception(type(error), error, _user_traceback(error))
    text = "".join(lines).rstrip().splitlines()
    return ErrorInfo(
        kind=f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."),
        message=message_of(error),
        traceback="\n".join(line[:MAX_LINE_LENGTH] for line in text[-TRACEBACK_LINES:]),
        step_id=step_id,
    )


def message_of(error: BaseException) -> str:
    """Return the message of an exception. A user's `__str__` that raises does not hide the exception."""
    try:
        return str(error)[: values.LONGEST_TEXT]
    except Exception as second:  # noqa: BLE001 - a user's `__str__` may raise anything
        return f"<its message cannot be rendered: {second!r}>"


def _user_traceback(error: BaseException) -> Any:
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None and tb.tb_frame.f_globals.get("__name__") in CALLERS:
        tb = tb.tb_next
    return tb
