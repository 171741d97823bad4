"""Ids of step executions and nested workflows. They depend only on position and name.

A step that is repeated returns the same ids again, so the outcomes of its sub-DAG are found.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from workflow.errors import InvalidInputError, WrongTypeError

LONGEST_SCOPE = 120
"""The longest parent id, in characters, that is a prefix of its children's ids. A longer one is replaced by its hash.
With this limit, ids stay short at any depth of recursion."""

LONGEST_WORD = 60
"""Characters of the workflow id and of the step id that are part of a nested workflow's id. The workflow id is cut at
its end, the step id at its start."""

_UNUSUAL = re.compile(r"[^A-Za-z0-9._~-]")
"""Characters that a key of the store would escape."""


def check(workflow_id: object, shown: str) -> None:
    """Check that a value can be a workflow id.

    Args:
        workflow_id: the value.
        shown: the value as the error shows it.

    Raises:
        WrongTypeError: the value is not a string.
        InvalidInputError: the value is empty, `.` or `..`.
    """
    if not isinstance(workflow_id, str) or workflow_id in ("", ".", ".."):
        kind = InvalidInputError if isinstance(workflow_id, str) else WrongTypeError
        raise kind(f"{shown} cannot be a workflow id; give any string except '', '.' and '..'")


def scope_of(parent: str) -> str:
    """Return the common prefix of all children of a dynamic step. For the first steps of a run it is empty."""
    if not parent:
        return ""
    if len(parent) <= LONGEST_SCOPE:
        return parent + "/"
    return "~" + hashlib.sha256(parent.encode()).hexdigest()[:24] + "/"


def place(parent: str, names: Iterable[str]) -> list[str]:
    """Return an id for each step of a DAG.

    Args:
        parent: the id of the dynamic step that returned the DAG; empty for the DAG of the run.
        names: the names of the steps, in the order in which equal names are numbered.

    Returns:
        The ids in the same order, unique within the run. The second step with a name gets `_1`, the third `_2`.
    """
    prefix = scope_of(parent)
    taken: set[str] = set()
    used: dict[str, int] = {}
    ids = []
    for name in names:
        name = name.replace("/", ".")  # a `/` separates the parent's id from the child's name
        number = used.get(name, 0)
        candidate = name if number == 0 else f"{name}_{number}"
        while candidate in taken:  # another step may have this very name, for example `load_1`
            number += 1
            candidate = f"{name}_{number}"
        used[name] = number + 1
        taken.add(candidate)
        ids.append(prefix + candidate)
    return ids


def nested(workflow_id: str, run_number: int, step_id: str, ordinal: int) -> str:
    """Return the id of a workflow that a step starts without an explicit id.

    Args:
        workflow_id, run_number: the run of the step.
        step_id: the id of the step execution.
        ordinal: the number of such workflows that this execution of the step has started, including this one.

    Returns:
        Readable words, followed by a digest of all four arguments, which makes the id unique.
    """
    # `ascii` escapes all other characters, and a pair of surrogates differently from the character it encodes. No two
    # tuples have the same text.
    digest = hashlib.sha256(ascii((workflow_id, run_number, step_id, ordinal)).encode()).hexdigest()[:24]
    words = f"{workflow_id[:LONGEST_WORD]}.{step_id[-LONGEST_WORD:]}.{ordinal}"
    return f"{re.sub(_UNUSUAL, '-', words)}-{digest}"
