"""Ids of step executions: pure functions of place and name, so that running a dynamic step again gives the same ids."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

LONGEST_SCOPE = 120
"""Characters of a parent's id that a child's id carries; a longer one is replaced by a hash of it, so that an id has
bounded length at any depth of recursion."""

LONGEST_WORD = 60
"""Characters that a nested workflow's id shows of the start of the workflow's and of the end of the step's that started
it."""

_UNUSUAL = re.compile(r"[^A-Za-z0-9._~-]")
"""What a store's key does not show as it is."""


def scope_of(parent: str) -> str:
    """The prefix that all children of one dynamic step share; empty for the steps a run begins with."""
    if not parent:
        return ""
    if len(parent) <= LONGEST_SCOPE:
        return parent + "/"
    return "~" + hashlib.sha256(parent.encode()).hexdigest()[:24] + "/"


def place(parent: str, names: Iterable[str]) -> list[str]:
    """Give each step of one DAG its id.

    Args:
        parent: id of the dynamic step that returned the DAG; empty for a run's own.
        names: the steps' names, in the DAG's order.

    Returns:
        An id each, unique within the run. The second step of a name gets `_1`, the third `_2`, and so on.
    """
    prefix = scope_of(parent)
    taken: set[str] = set()
    used: dict[str, int] = {}
    ids = []
    for name in names:
        name = name.replace("/", ".")  # `/` is what parts a child's name from its parent's id
        k = used.get(name, 0)
        candidate = name if k == 0 else f"{name}_{k}"
        while candidate in taken:
            k += 1
            candidate = f"{name}_{k}"
        used[name] = k + 1
        taken.add(candidate)
        ids.append(prefix + candidate)
    return ids


def nested(workflow_id: str, run_number: int, step_id: str, ordinal: int) -> str:
    """Id of a workflow that a step starts without giving it one.

    Args:
        workflow_id, n: the run of the step.
        step_id: the step.
        ordinal: how many such workflows this execution of it has started, with this one.

    Returns:
        Readable words, then a digest of all four that tells apart what the words do not.
    """
    # Escapes all but ASCII, surrogates otherwise than what pairs of them would make: no two tuples look the same.
    digest = hashlib.sha256(ascii((workflow_id, run_number, step_id, ordinal)).encode()).hexdigest()[:24]
    words = f"{workflow_id[:LONGEST_WORD]}.{step_id[-LONGEST_WORD:]}.{ordinal}"
    return f"{re.sub(_UNUSUAL, '-', words)}-{digest}"
