"""Failpoints: named points around each step of claim and commit, where tests stop or kill a process.

They are an injected object, never a global switch. Production code holds `NO_FAILPOINTS`, which does nothing.
"""

from __future__ import annotations

from typing import Protocol

BEFORE_BLOB = "before_blob"
AFTER_BLOB = "after_blob"
BEFORE_COMMIT = "before_commit"
AFTER_COMMIT = "after_commit"
BEFORE_CLAIM = "before_claim"
AFTER_CLAIM = "after_claim"
BEFORE_REGISTER = "before_register"
AFTER_REGISTER = "after_register"
BEFORE_SNAPSHOT = "before_snapshot"
AFTER_SNAPSHOT = "after_snapshot"

ALL = (
    BEFORE_BLOB, AFTER_BLOB, BEFORE_COMMIT, AFTER_COMMIT, BEFORE_CLAIM, AFTER_CLAIM, BEFORE_REGISTER, AFTER_REGISTER,
    BEFORE_SNAPSHOT, AFTER_SNAPSHOT,
)  # fmt: skip


class Failpoints(Protocol):
    """Receives the name of each failpoint when it is reached."""

    def reach(self, point: str) -> None:
        """Handle a failpoint; may block, raise or end the process."""


class _NoFailpoints:
    def reach(self, point: str) -> None:
        """Do nothing."""


NO_FAILPOINTS: Failpoints = _NoFailpoints()
