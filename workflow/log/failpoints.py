"""Named points around each step of claim and commit, where tests stop a rival or kill the process.

An injected object, never a global switch: what runs in production holds `NO_POINTS`, which does nothing.
"""

from __future__ import annotations

from typing import Protocol

BEFORE_BLOB = "before_blob"
AFTER_BLOB = "after_blob"
BEFORE_COMMIT = "before_commit"
AFTER_COMMIT = "after_commit"
BEFORE_CLAIM = "before_claim"
AFTER_CLAIM = "after_claim"
BEFORE_NAME = "before_name"
AFTER_NAME = "after_name"
BEFORE_SNAPSHOT = "before_snapshot"
AFTER_SNAPSHOT = "after_snapshot"

ALL = (
    BEFORE_BLOB, AFTER_BLOB, BEFORE_COMMIT, AFTER_COMMIT, BEFORE_CLAIM, AFTER_CLAIM, BEFORE_NAME, AFTER_NAME,
    BEFORE_SNAPSHOT, AFTER_SNAPSHOT,
)  # fmt: skip


class Failpoints(Protocol):
    """Told of each point that is reached."""

    def reach(self, point: str) -> None:
        """May block, raise or end the process."""


class _NoFailpoints:
    def reach(self, point: str) -> None:
        """Nothing."""


NO_FAILPOINTS: Failpoints = _NoFailpoints()
