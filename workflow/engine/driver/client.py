"""The client of a driver: creates runs, attaches to them, resumes them and waits for them.

`api` and `entrypoint` use it through `session` or directly.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import time
import uuid
from dataclasses import dataclass
from typing import Any

import ray

from workflow.engine.driver import discovery
from workflow.engine.driver.compared import warn_of_other_inputs
from workflow.engine.driver.present_code import replace_functions
from workflow.engine.driver.program import program_here
from workflow.engine.driver.progress import describe_progress
from workflow.engine.messages import ClaimRequest, RunAddress, RunResult
from workflow.engine.owner.completion import owner_lost
from workflow.engine.worker import same_store
from workflow.engine.worker.encoding import Encoder, ShapeEncoder
from workflow.engine.worker.run_values import RunValues
from workflow.errors import (
    OwnerLostError,
    StoreRefusedError,
    StoreUnavailableError,
    SupersededError,
    UnavailableError,
    WorkflowConflictError,
    WorkflowExecutionError,
    WorkflowInUseError,
    WorkflowNotFoundError,
    WorkflowNotResumableError,
)
from workflow.log import liveness, registry
from workflow.log.keys import RunPaths
from workflow.log.run_log import RunLog
from workflow.log.stored_function import main_source
from workflow.log.values import versions
from workflow.model.graph import Graph, StepNode
from workflow.model.graph_diff import first_difference
from workflow.model.records import FREES_ID, Created, Tombstone
from workflow.model.run_view import Owner
from workflow.model.state import RunState
from workflow.model.status import WorkflowStatus
from workflow.store.port import Store

MAX_STARTS = 100
"""Attempts to create a run while other processes create and delete runs under the same id."""

MANAGER_RETRY_PAUSE = 0.2
"""Seconds between two calls of a manager that is ending."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options for creating, attaching to and resuming a run.

    Attributes:
        metadata: the user's metadata, as JSON text.
        max_resumes: consecutive claims without progress after which the run FAILED; -1 for no limit.
        uid: uid of the Workflow object that this driver runs for; empty without the operator.
        attempt: number of the submission attempt that this driver belongs to; 0 without the operator.
        run_number: number of the run, chosen by the operator; 0 for the next one.
        run_uuid: uuid of the run, chosen by the operator; empty for a new one.
        code: sha256 of the user's code that is stored with the run.
        retry_failed: whether to resume a run that FAILED, as `resume` does.
        unresponsive: seconds after which a manager that does not answer is restarted.
    """

    metadata: str = "{}"
    max_resumes: int = -1
    uid: str = ""
    attempt: int = 0
    run_number: int = 0
    run_uuid: str = ""
    code: str = ""
    retry_failed: bool = False
    unresponsive: float = discovery.UNRESPONSIVE


@dataclass(frozen=True, slots=True)
class RunHandle:
    """A run, and a manager of this cluster that can wait for it."""

    manager: Any
    run: RunAddress


class Client:
    """Creates and finds runs in one store.

    Args:
        store: the store that contains the runs.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def start(self, root: StepNode, workflow_id: str, options: RunOptions = RunOptions()) -> RunHandle:
        """Create a run, or attach to the run that the id refers to.

        Returns:
            The run. A manager of this cluster owns it or follows it.

        Raises:
            WorkflowConflictError: the id refers to a run of another DAG.
            WorkflowInUseError: another Workflow object owns the run.
            SupersededError: a later run or a later submission attempt replaced this one.
            StoreRefusedError: the manager sees another store than this process.
            InvalidInputError: something in the DAG cannot be stored.
        """
        for _ in range(MAX_STARTS):
            entry = self._registry_entry(workflow_id, options)
            if isinstance(entry, Created):
                self._check_shape(root, entry)
                warn_of_other_inputs(root, self._store, entry)
                return self.attach(entry, options)
            if isinstance(entry, Tombstone):
                if entry.reason not in FREES_ID:
                    raise _tombstone_error(entry)
                if options.run_number:
                    raise SupersededError(
                        f"cannot create run {options.run_number} of workflow {workflow_id!r}: this run was already "
                        f"{entry.reason.lower()}, and this submission may create only this run"
                    )
            if not same_store.has_proof(self._store.url):
                self._call_manager(options, "show_store")  # it raises before anything is stored
            created = self._created(root, workflow_id, options, entry.run_number + 1 if entry is not None else 1)
            manager, registered = self._call_manager(options, "start", created)
            if isinstance(registered, Created) and registered.run_uuid == created.run_uuid:
                return RunHandle(manager, self._address(registered))
            if registry.latest_run_number(self._store, workflow_id) < created.run_number:
                raise StoreRefusedError(
                    f"cannot start workflow {workflow_id!r}: its manager found run {created.run_number} of it in the "
                    f"store {self._store.url}, and this process does not, so the address leads to two different "
                    "stores; use a folder or a bucket that all nodes share (docs/stores.md)"
                )
        raise UnavailableError(
            f"cannot start workflow {workflow_id!r}: other processes created and deleted a run under this id at the "
            f"same time as each of {MAX_STARTS} attempts; try again"
        )

    def attach(self, created: Created, options: RunOptions = RunOptions(), *, take_over: bool = False) -> RunHandle:
        """Find a manager that waits for a run: its owner, or one that claims the run, or one that follows it.

        Raises:
            WorkflowInUseError: under the operator, another Workflow object owns the run.
            SupersededError: a later submission attempt owns the run.
        """
        log = RunLog(self._store, created)
        state = log.replay()
        if not take_over:
            manager = self._manager_of_owner(state, options)
            if manager is not None:
                return RunHandle(manager, self._address(created))
        retry = options.retry_failed and state.status is WorkflowStatus.FAILED
        if retry or self._may_claim(state, options, take_over):
            try:
                return self._claim(log, state, options, take_over=take_over, retry_failed=retry)
            except (WorkflowInUseError, WorkflowConflictError):
                if options.uid:
                    raise
                # Another manager claimed the run after it was read, or the run finished: follow it.
        return RunHandle(discovery.find_or_create(self._store.url, options.unresponsive), self._address(created))

    def observe(self, created: Created) -> RunHandle:
        """Find a manager that waits for a run, and never claim the run: its owner, or a manager that follows it.

        Raises:
            OwnerLostError: the run is not finished, and no manager owns it any more.
        """
        state = RunLog(self._store, created).replay()
        manager = self._manager_of_owner(state, RunOptions())
        if manager is None:
            if not state.is_finished and (state.released or liveness.is_lost(self._store, state.owner)):
                raise owner_lost(created.workflow_id)
            manager = discovery.find_or_create(self._store.url)
        return RunHandle(manager, self._address(created))

    def _manager_of_owner(self, state: RunState, options: RunOptions) -> Any:
        """Return the manager of this cluster that owns a run; None if the run has no owner, or one elsewhere."""
        if state.is_finished or state.released or not _same_object(state.owner, options):
            return None
        return discovery.find_owner(state.owner, options.unresponsive)

    def resume(self, workflow_id: str, *, take_over: bool = False, options: RunOptions = RunOptions()) -> RunHandle:
        """Continue a run that is RESUMABLE or FAILED. Only wait for a run that is SUCCESSFUL, or that ends meanwhile.

        With `take_over`, only the owner that this call read is replaced. If another manager claims the run after that,
        it is in use.

        Raises:
            WorkflowNotFoundError: there is no such workflow. Nothing was written.
            WorkflowInUseError: the owner of the run is alive.
            WorkflowNotResumableError: the run was canceled.
        """
        created = self.find(workflow_id)
        log = RunLog(self._store, created)
        state = log.replay()
        status = state.terminal[1].status if state.terminal is not None else WorkflowStatus.RUNNING
        if status is WorkflowStatus.CANCELED:
            raise WorkflowNotResumableError(
                f"cannot resume workflow {workflow_id!r}: a canceled run cannot be resumed; delete it and run it again",
                workflow_id=workflow_id,
            )
        if status is not WorkflowStatus.SUCCESSFUL:
            failed = status is WorkflowStatus.FAILED
            # A conflict means that the run ended after it was read. That end is the result, also if it FAILED again.
            with contextlib.suppress(WorkflowConflictError):
                return self._claim(log, state, options, take_over=take_over, retry_failed=failed)
        return RunHandle(discovery.find_or_create(self._store.url, options.unresponsive), self._address(created))

    def find(self, workflow_id: str) -> Created:
        """Return the run that the id refers to.

        Raises:
            WorkflowNotFoundError: there is none.
            WorkflowExecutionError: the run was ended before it was created.
        """
        entry = registry.current_entry(self._store, workflow_id)
        if entry is None or (isinstance(entry, Tombstone) and entry.reason in FREES_ID):
            raise WorkflowNotFoundError(
                f"no workflow {workflow_id!r} is stored at {self._store.url}; compare the id with those of "
                "workflow.list_all(), and the address with the storage that was given to workflow.init()",
                workflow_id=workflow_id,
            )
        if isinstance(entry, Tombstone):
            raise _tombstone_error(entry)
        return entry

    def wait(self, handle: RunHandle, *, resumes: bool = True) -> RunResult:
        """Wait until a run is finished. If its manager is lost meanwhile, find another one.

        Args:
            handle: the run.
            resumes: whether to continue the run if its owner is lost. A call that only reads must not.

        Raises:
            SupersededError: the run was deleted, and its id refers to another run.
            WorkflowNotFoundError: the run was deleted.
            OwnerLostError: its owner is lost, and this call may not continue it.
        """
        while True:
            try:
                waiting = handle.manager.wait.remote(handle.run)
                result: RunResult = discovery.ask(
                    waiting, functools.partial(describe_progress, self._store, handle.run)
                )
                return result
            except (UnavailableError, ray.exceptions.RayActorError) as error:
                if isinstance(error, OwnerLostError) and not resumes:
                    raise
                created = self.find(handle.run.workflow_id)
                if created.run_uuid != handle.run.run_uuid:
                    raise SupersededError(
                        f"workflow {created.workflow_id!r}: the run that was waited for was deleted, and another run "
                        "was created under its id; call get_output for the value of that run",
                        workflow_id=created.workflow_id,
                    ) from None
                handle = self.attach(created) if resumes else self.observe(created)

    def _claim(
        self, log: RunLog, state: RunState, options: RunOptions, *, take_over: bool = False, retry_failed: bool = False
    ) -> RunHandle:
        created = log.created
        run_values = RunValues(self._store, log.paths)
        request = ClaimRequest(
            created.workflow_id,
            created.run_number,
            options.uid,
            options.attempt,
            take_over=state.owner if take_over else None,
            retry_failed=state.terminal[0] if retry_failed and state.terminal is not None else -1,
            functions=replace_functions(state, run_values, program_here(), options.uid),
        )
        manager, _ = self._call_manager(options, "claim", request)
        return RunHandle(manager, self._address(created))

    def _may_claim(self, state: RunState, options: RunOptions, take_over: bool) -> bool:
        """Return whether to claim a run: it is not finished, and its owner is lost or may be replaced."""
        if state.is_finished:
            return False
        if options.uid or take_over or state.released:
            return True
        return liveness.is_lost(self._store, state.owner)

    def _call_manager(self, options: RunOptions, method: str, *arguments: Any) -> tuple[Any, Any]:
        """Call a method of this environment's manager. If the manager is ending, wait for the end and create another.

        Returns:
            The manager that answered, and the result of the method.
        """
        what = "".join(f" {each.workflow_id!r}" for each in arguments)
        deadline = time.monotonic() + options.unresponsive
        while True:
            try:
                manager = discovery.find_or_create(self._store.url, options.unresponsive)
                answer = getattr(manager, method).remote(*arguments)
                words = method.replace("_", " ")
                return manager, discovery.ask(answer, functools.partial("a manager to {}{}".format, words, what))
            except (UnavailableError, ray.exceptions.RayActorError) as error:
                if isinstance(error, StoreUnavailableError) or time.monotonic() > deadline:
                    raise
            time.sleep(MANAGER_RETRY_PAUSE)

    def _registry_entry(self, workflow_id: str, options: RunOptions) -> Created | Tombstone | None:
        if not options.run_number:
            return registry.current_entry(self._store, workflow_id)
        latest = registry.latest_run_number(self._store, workflow_id)
        if latest > options.run_number:
            raise SupersededError(f"workflow {workflow_id!r}: run {options.run_number} was replaced by run {latest}")
        return registry.read_entry(self._store, workflow_id, options.run_number)

    def _created(self, root: StepNode, workflow_id: str, options: RunOptions, next_run_number: int) -> Created:
        """Store the DAG of a new run, and return the run's first record."""
        run_number = options.run_number or next_run_number
        run_uuid = options.run_uuid or uuid.uuid4().hex
        run_values = RunValues(self._store, RunPaths(workflow_id, run_number, run_uuid))
        graph = Encoder(run_values).encode(root)
        inline, blob = run_values.store_graph(graph)
        return Created(
            workflow_id=workflow_id,
            run_number=run_number,
            run_uuid=run_uuid,
            owner=Owner(manager="", uid=options.uid, attempt=options.attempt),
            shape=_digest(graph),
            at=time.time(),
            graph=inline,
            graph_blob=blob,
            max_resumes=options.max_resumes,
            metadata=options.metadata,
            code=options.code,
            main_script=os.path.basename(main_source()),
            program=program_here(),
            versions=versions(),
        )

    def _check_shape(self, root: StepNode, created: Created) -> None:
        given = ShapeEncoder().encode(root)
        if _digest(given) != created.shape:
            stored = RunLog(self._store, created).blobs.load_graph(created.graph, created.graph_blob)
            difference = first_difference(stored, given) or "its recorded shape differs"
            raise WorkflowConflictError(
                f"workflow id {created.workflow_id!r} is used by another DAG: {difference}; "
                "give another workflow_id, or delete the existing workflow",
                workflow_id=created.workflow_id,
            )

    def _address(self, created: Created) -> RunAddress:
        return RunAddress(self._store.url, created.workflow_id, created.run_number, created.run_uuid)


def _same_object(owner: Owner, options: RunOptions) -> bool:
    return not options.uid or owner.uid == options.uid


def _digest(graph: Graph) -> str:
    return hashlib.sha256(graph.shape().encode()).hexdigest()


def _tombstone_error(tombstone: Tombstone) -> WorkflowExecutionError:
    text = tombstone.error.message if tombstone.error is not None else tombstone.reason
    return WorkflowExecutionError(
        f"workflow {tombstone.workflow_id!r} ended {tombstone.status} before it started: {text}; call "
        f"workflow.delete({tombstone.workflow_id!r}) to use this id again"
    )
