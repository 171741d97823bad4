"""The result of a run for the status: exact JSON text, or a note why there is none and how to read it.

The manager writes the text to the log. The operator never unpickles a value.
"""

from __future__ import annotations

import json

from workflow_operator.core.log_view import RunView, WorkflowStatus, description_of

RESULT_LIMIT = 4096
"""The largest result that is stored in the status, in characters of JSON."""


def result_of(view: RunView) -> dict[str, str | None]:
    """Return the fields of the status that describe the result of a run; none if the run has no result.

    Args:
        view: the run.

    Returns:
        `result` and `result_note`. One of them is set.
    """
    text = view.result_text
    if view.status is not WorkflowStatus.SUCCESSFUL or text is None:
        return {}
    note = _why_absent(text)
    if note:
        read = f"ray.get(workflow.get_output({view.workflow_id!r}))"
        return {"result": None, "result_note": f"the result {note}: read it with {read}"}
    return {"result": text, "result_note": ""}


def _why_absent(text: str) -> str:
    """Return why a text is not in the status, or an empty string."""
    description = description_of(text)
    if description is not None:
        return f"is {description[:RESULT_LIMIT]}"
    if len(text) > RESULT_LIMIT:
        return f"has more than {RESULT_LIMIT} characters"
    if not text:
        return "has no text in the log"
    return "" if _is_json(text) else "is not JSON"


def _is_json(text: str) -> bool:
    """Return whether a text is JSON. Earlier versions of the library wrote any plain text to the log."""
    try:
        json.loads(text, parse_int=len, parse_constant=_refuse)
    except ValueError:
        return False
    except RecursionError:  # too deep for this parser, and too deep for the plain text of an earlier version
        return True
    return True


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
