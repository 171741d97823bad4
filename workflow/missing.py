"""What to use instead of a name that `workflow` does not have, for the AttributeError. This module needs no Ray."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Final

from workflow import errors

_VIRTUAL_ACTORS: Final = (
    "there are no virtual actors: keep state in a database or in a Ray actor; see docs/non-goals.md"
)
_PUBLIC_MODULES: Final = (
    "api", "common", "errors", "event_listener", "garbage", "inspection", "reading", "requests", "session", "steps",
    "store", "testing", "waits",
)  # fmt: skip

_INSTEAD: Final = {
    "virtual_actor": _VIRTUAL_ACTORS,
    "get_actor": _VIRTUAL_ACTORS,
    "options": "give options to the decorator, as @workflow.step(max_retries=3), or to a step, as f.options(...)",
    "storage": "pass an address or a folder to workflow.init(...); see docs/stores.md",
    "Storage": "pass an address or a folder to workflow.init(...); see docs/stores.md",
    "PENDING": "a workflow is RUNNING as soon as it exists",
    "exceptions": "the errors are in workflow.errors",
    "execution": "use the functions of workflow itself; see docs/migration.md",
}
"""Names that users may expect, and what to do instead. A name that the package has is never looked up here."""


def instead_of(name: str, public: Sequence[str]) -> str:
    """Return the end of an error message for a missing name, from its semicolon on.

    Args:
        name: the missing name.
        public: the public names of the package.
    """
    if name in _INSTEAD:
        return f"; {_INSTEAD[name]}"
    if name in vars(errors):
        return f"; import it: from workflow.errors import {name}"
    if name in _PUBLIC_MODULES:
        return f"; import the module first: import workflow.{name}"
    if name.startswith("__"):  # a probe of Python or of a tool, not a misspelled name
        return ""
    close = {each.lower(): each for each in public}
    found = difflib.get_close_matches(name.lower(), close, n=1)
    question = f" (did you mean {close[found[0]]!r}?)" if found else ""
    return f"{question}; it has {', '.join(public)}"
