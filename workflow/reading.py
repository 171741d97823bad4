"""Read a run without Ray: the operator, the views and other outside readers use this module. It unpickles nothing."""

from __future__ import annotations

from dataclasses import dataclass

from workflow.errors import SupersededError
from workflow.log import keys, liveness, registry
from workflow.log.run_log import RunLog
from workflow.model import result_text
from workflow.model.records import Created, Tombstone
from workflow.model.run_view import ErrorInfo, Owner, RunView, StepCounts, StepView
from workflow.model.state import RunState, StepState
from workflow.model.status import StepPhase, WorkflowStatus
from workflow.model.totals import RunTotals, totals_of
from workflow.store.port import Store

__all__ = [
    "ErrorInfo",
    "Follower",
    "Owner",
    "Remains",
    "RunTotals",
    "RunView",
    "StepCounts",
    "StepView",
    "WorkflowStatus",
    "is_registered",
    "read_driver_logs",
    "read_run",
    "read_totals",
    "remains_of",
    "status_of",
    "view_of",
    "wait_reason",
]


def read_run(store: Store, workflow_id: str, run_number: int | None = None) -> RunView | None:
    """Read a run from its log.

    Args:
        store: the store of the run.
        workflow_id: the user's id.
        run_number: the number of the run under that id; the newest run if None.

    Returns:
        The run, or the tombstone that replaces it; None if neither exists.

    Raises:
        CorruptLogError: an object of the run is damaged; the text names its key.
        StoreUnavailableError, StoreRefusedError: the store could not be read.
    """
    return Follower(store, workflow_id, run_number).poll()


def read_driver_logs(store: Store, workflow_id: str, run_number: int | None = None) -> dict[str, str]:
    """Read the ends of the logs of the drivers that the operator submitted for a run and that have ended.

    Args:
        store: the store of the run.
        workflow_id: the user's id.
        run_number: the number of the run under that id; the newest run if None.

    Returns:
        The text of each log by the submission id of its driver, oldest first. It has at most 256 KiB.

    Raises:
        StoreUnavailableError, StoreRefusedError: the store could not be read.
    """
    number = run_number or registry.latest_run_number(store, workflow_id) or 1
    found = []
    for info in store.list(f"{keys.runs(workflow_id)}{number}-"):
        key = keys.run_key(info.key)
        if key is not None and key.kind == keys.DRIVERS:
            found.append((-info.age, info.key, key.last))
    contents = {submission: store.get(name) for _, name, submission in sorted(found)}
    return {submission: log.decode(errors="replace") for submission, log in contents.items() if log is not None}


def read_totals(store: Store, workflow_id: str, run_number: int | None = None) -> RunTotals | None:
    """Read how many steps of a run are in each phase, its owner, and how it ended, without folding its log.

    Costs one LIST and one GET of the registry, one LIST of the segments and one GET of the newest one. To poll one run,
    call `RunLog.newest_totals` with the seq of its last result: then the LIST and the GET of the segments remain.

    Args:
        store: the store of the run.
        workflow_id: the user's id.
        run_number: the number of the run under that id; the newest run if None.

    Returns:
        The totals, or None if there is no run, or a tombstone in its place.

    Raises:
        CorruptLogError, NewerFormatError: an object that was read is damaged, or a newer version wrote it.
        StoreUnavailableError, StoreRefusedError: the store could not be read.
    """
    if run_number is None:
        entry = registry.current_entry(store, workflow_id)
    else:
        entry = registry.read_entry(store, workflow_id, run_number)
    if not isinstance(entry, Created):
        return None
    log = RunLog(store, entry)
    try:
        newest = log.newest_totals()
        return newest[1] if newest is not None else totals_of(log.begin())
    except SupersededError:  # deleted during the call
        return None


@dataclass(frozen=True, slots=True)
class Remains:
    """What a store contains of a run.

    Attributes:
        entry: the key of the registry entry that created the run.
        log: the key of the first segment of its log.
        has_entry: whether the registry entry exists.
        has_log: whether the first segment or a snapshot exists. It is False if the entry exists, and not read then.
    """

    entry: str
    log: str
    has_entry: bool
    has_log: bool = False


def is_registered(store: Store, workflow_id: str, run_number: int) -> bool:
    """Return whether the registry entry of a run, or the tombstone in its place, exists. Costs one HEAD."""
    return store.head(keys.registry_entry(workflow_id, run_number)) is not None


def remains_of(store: Store, workflow_id: str, run_number: int, run_uuid: str) -> Remains:
    """Return what a store contains of a run that was read before.

    A deletion leaves a tombstone, so a missing registry entry means that data was lost.

    Args:
        store: the store of the run.
        workflow_id: the user's id.
        run_number: the number of the run under that id.
        run_uuid: the unique id of the run.

    Raises:
        StoreUnavailableError, StoreRefusedError: the store could not be read.
    """
    paths = keys.RunPaths(workflow_id, run_number, run_uuid)
    entry, first = keys.registry_entry(workflow_id, run_number), paths.segment(1)
    if is_registered(store, workflow_id, run_number):
        return Remains(entry, first, has_entry=True)
    has_log = store.head(first) is not None or next(store.list(paths.snapshots), None) is not None
    return Remains(entry, first, has_entry=False, has_log=has_log)


class Follower:
    """Reads one run repeatedly. A poll without changes costs one small GET.

    Args:
        store: the store of the run.
        workflow_id: the user's id.
        run_number: the number of the run under that id; if None, the newest run at the first poll that finds one.
    """

    def __init__(self, store: Store, workflow_id: str, run_number: int | None = None) -> None:
        self._store = store
        self._workflow_id = workflow_id
        self._run_number = run_number
        self._log: RunLog | None = None
        self._state: RunState | None = None
        self._view: RunView | None = None

    def poll(self) -> RunView | None:
        """Return the run as it is now, or the same object as before if nothing changed. Raises like `read_run`."""
        if self._state is None or self._log is None:
            return self._first()
        if self._log.catch_up(self._state):
            self._view = view_of(self._state)
        return self._view

    def _first(self) -> RunView | None:
        if self._view is not None:
            return self._view
        if self._run_number is None:
            entry = registry.current_entry(self._store, self._workflow_id)
        else:
            entry = registry.read_entry(self._store, self._workflow_id, self._run_number)
        if entry is None:
            return None
        if isinstance(entry, Tombstone):
            self._view = _tombstone_view(entry)
            return self._view
        log = RunLog(self._store, entry)
        deletion = registry.deletion_of(self._store, entry)
        if deletion is None:
            try:
                self._state = log.replay()
            except SupersededError:  # the run was deleted during the replay
                deletion = registry.deletion_of(self._store, entry)
        if deletion is not None:
            self._view = _tombstone_view(deletion)
            return self._view
        assert self._state is not None, "a replay raises SupersededError only if the run was deleted"
        self._log, self._view = log, view_of(self._state)
        return self._view


def status_of(store: Store, view: RunView) -> WorkflowStatus:
    """Return a run's status for users. It is RESUMABLE, not RUNNING, if the owner's heartbeat has expired."""
    if view.status is WorkflowStatus.RUNNING and view.owner is not None and liveness.is_lost(store, view.owner):
        return WorkflowStatus.RESUMABLE
    return view.status


def wait_reason(store: Store, view: RunView) -> str:
    """Return why steps of a running run have had no worker for a while, as its manager reports it; or empty.

    Costs one GET.

    Args:
        store: the store of the run.
        view: the run as last read.

    Raises:
        StoreUnavailableError, StoreRefusedError: the store could not be read.
    """
    if view.owner is None or view.status is not WorkflowStatus.RUNNING:
        return ""
    return liveness.wait_reason(store, view.owner, view.run_uuid)


def view_of(state: RunState) -> RunView:
    """Return the view of a run's folded state."""
    created: Created = state.created
    end = state.terminal[1] if state.terminal is not None else None
    output = state.output
    return RunView(
        workflow_id=created.workflow_id,
        run_number=created.run_number,
        run_uuid=created.run_uuid,
        status=state.status,
        epoch=state.epoch,
        owner=state.owner,
        created=created.at,
        ended=end.at if end is not None else None,
        reason=end.reason if end is not None else "",
        error=end.error if end is not None else None,
        counts=StepCounts(len(state.steps), state.succeeded, len(state.running), state.failed),
        steps=tuple(_step_view(step) for step in state.steps.values()),
        result_text=_result_text(output) if output is not None and state.status is WorkflowStatus.SUCCESSFUL else None,
        epochs_without_progress=state.epochs_without_progress,
        suspect_steps=state.suspect_steps,
        next_seq=state.seq + 1,
        code=created.code,
        metadata=created.metadata,
    )


def _result_text(output: StepState) -> str:
    outcome = output.outcome
    if outcome is not None and outcome.waited is not None:  # its text has the ids of the steps, and not the values
        ready, remaining = len(outcome.waited.ready), len(outcome.waited.remaining)
        return result_text.described(f"the outcome of workflow.wait with {ready} ready and {remaining} other steps")
    while output.members and not output.text:
        # A dynamic step has its value from the output step of the DAG that it returned, unless it caught a failure.
        output = next(step for step in output.members if step.resolves is output)
    if outcome is not None and outcome.caught:
        return result_text.described(f"the tuple {output.text}")
    if outcome is not None and outcome.wrapped:
        return result_text.with_no_exception(output.text)
    return output.text


def _step_view(step: StepState) -> StepView:
    return StepView(
        step_id=step.spec.step_id,
        name=step.spec.name,
        phase=StepPhase(step.phase),
        parents=step.spec.parents,
        parent_expansion=step.scope.spec.step_id if step.scope is not None else "",
        attempts=step.attempt,
        epoch=step.epoch,
        started=step.started or None,
        ended=step.ended or None,
        error=step.error or step.last_error,
    )


def _tombstone_view(tombstone: Tombstone) -> RunView:
    return RunView(
        workflow_id=tombstone.workflow_id,
        run_number=tombstone.run_number,
        run_uuid="",
        status=tombstone.status,
        epoch=0,
        owner=Owner(manager="", uid=tombstone.uid),
        created=tombstone.at,
        ended=tombstone.at,
        reason=tombstone.reason,
        error=tombstone.error,
        counts=StepCounts(),
        steps=(),
        result_text=None,
        epochs_without_progress=0,
        suspect_steps=(),
        next_seq=1,
        tombstone=True,
    )
