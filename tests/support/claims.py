"""Requests to claim a run, as a client decides them: it reads the run, and names what it decided against."""

from __future__ import annotations

from workflow.engine.messages import ClaimRequest
from workflow.log import registry
from workflow.log.run_log import RunLog
from workflow.model.records import Created
from workflow.model.state import RunState
from workflow.store.port import Store


def state_of(store: Store, workflow_id: str = "w", run_number: int = 1) -> RunState:
    """Return the state of a run as its log records it now."""
    created = registry.read_entry(store, workflow_id, run_number)
    assert isinstance(created, Created)
    return RunLog(store, created).replay()


def take_over(store: Store, workflow_id: str = "w", run_number: int = 1, uid: str = "") -> ClaimRequest:
    """Return the request to take a run over from its present owner."""
    return ClaimRequest(workflow_id, run_number, uid, take_over=state_of(store, workflow_id, run_number).owner)


def retry(store: Store, workflow_id: str = "w", run_number: int = 1) -> ClaimRequest:
    """Return the request to resume a run that FAILED."""
    terminal = state_of(store, workflow_id, run_number).terminal
    assert terminal is not None
    return ClaimRequest(workflow_id, run_number, retry_failed=terminal[0])
