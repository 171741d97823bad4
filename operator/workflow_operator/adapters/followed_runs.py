"""A run that the operator follows: what was read last, and the reads that are repeated only every few seconds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from workflow import reading
from workflow.model.run_view import RunView
from workflow.model.status import WorkflowStatus
from workflow.store import Store

LIVENESS_SECONDS = 5.0
"""Interval at which the owner's heartbeat, and newer runs under the same workflow id, are read."""

WAITING_SECONDS = 10.0
"""Interval at which the reason is read why steps of a run have no worker."""


@dataclass
class FollowedRun:
    """A run that the operator follows. At most one refresh runs at a time, and it continues after a timed-out read.

    Attributes:
        follower: reads the new segments of the run.
        refresh: the current or last refresh.
        cancel_requested: the loop's time of the last cancel request.
        view: the run as last read, or None if nothing is stored under the id.
        liveness: the status of the run, which depends on the owner's heartbeat.
        liveness_checked: the loop's time at which `liveness` was read.
        waiting: why steps have no worker, or empty.
        waiting_checked: the loop's time at which `waiting` was read.
    """

    follower: reading.Follower
    refresh: asyncio.Task[None] | None = None
    cancel_requested: float = float("-inf")
    view: RunView | None = None
    liveness: WorkflowStatus | None = None
    liveness_checked: float = float("-inf")
    waiting: str = ""
    waiting_checked: float = float("-inf")


def refresh(followed: FollowedRun, store: Store, workflow_id: str, now: float) -> None:
    """Read the run. Every few seconds also read its owner's heartbeat, and newer runs under the same id."""
    before, view = followed.view, followed.follower.poll()
    due = view is not before or now - followed.liveness_checked >= LIVENESS_SECONDS
    if view is not None and due and not reading.is_registered(store, workflow_id, view.run_number):
        followed.follower = reading.Follower(store, workflow_id)  # what is in memory is no longer in the store
        view = followed.follower.poll()
    if view is not None and (due or view.status.is_terminal):
        later = reading.Follower(store, workflow_id, view.run_number + 1)
        next_view = later.poll()
        while next_view is not None:
            followed.follower, view = later, next_view
            later = reading.Follower(store, workflow_id, view.run_number + 1)
            next_view = later.poll()
    if due or view is not before:
        followed.liveness = None if view is None else reading.status_of(store, view)
        followed.liveness_checked = now
    followed.view = view
    _refresh_waiting(followed, store, now)


def _refresh_waiting(followed: FollowedRun, store: Store, now: float) -> None:
    """Read every few seconds why steps have no worker, if steps are running and their manager is alive."""
    view = followed.view
    if view is None or followed.liveness is not WorkflowStatus.RUNNING or view.counts.running == 0:
        followed.waiting = ""
    elif now - followed.waiting_checked >= WAITING_SECONDS:
        followed.waiting = reading.wait_reason(store, view)
        followed.waiting_checked = now
