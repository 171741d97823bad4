"""The driver's side: makes runs, attaches to them, resumes them, waits for them. Called by `api` and `entrypoint`."""

from __future__ import annotations

import hashlib
import time
import uuid
from dataclasses import dataclass
from typing import Any

import ray

from workflow.engine.driver import discovery
from workflow.engine.messages import RunAddress, RunResult
from workflow.engine.owner.manager import ClaimRequest
from workflow.engine.worker import functions
from workflow.engine.worker.encoding import Encoder, ShapeEncoder
from workflow.errors import (
    StoreUnavailableError,
    SupersededError,
    UnavailableError,
    WorkflowConflictError,
    WorkflowExecutionError,
    WorkflowInUseError,
    WorkflowNotFoundError,
    WorkflowNotResumableError,
)
from workflow.log import registry
from workflow.log.blobs import Blobs
from workflow.log.claim import heartbeat_expired
from workflow.log.keys import RunPaths
from workflow.log.run_log import RunLog
from workflow.log.values import versions
from workflow.model.graph import Graph, StepNode
from workflow.model.records import FREES_ID, Created, Tombstone
from workflow.model.run_view import Owner
from workflow.model.state import RunState
from workflow.model.status import WorkflowStatus
from workflow.store.port import Store

LEAVING_PAUSE = 0.2
"""Seconds between looks whether a manager that leaves is gone."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is made.

    Attributes:
        metadata: the user's, as JSON text.
        max_resumes: claims in a row without progress before the run is given up; -1 without end.
        uid, attempt: of the Workflow object that asks; empty and 0 without the operator.
        n, run_uuid: told by the operator; 0 and empty: the next one, a new one.
        code: sha256 of the user's code kept with the run.
        retry_failed: a run that the id names and that FAILED is tried again, as `resume` does.
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
    """Starts and finds runs of one store.

    Args:
        store: where they lie.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def start(self, root: StepNode, workflow_id: str, options: RunOptions = RunOptions()) -> RunHandle:
        """Make a run, or attach to the one that the id names.

        Returns:
            The run, owned by a manager of this cluster or followed by one.

        Raises:
            WorkflowConflict: the id names a run of another DAG.
            InUse, Superseded: it may not be attached to (under the operator).
            Invalid: something in the DAG cannot be stored.
        """
        while True:
            named = self._named(workflow_id, options)
            if isinstance(named, Created):
                self._check_shape(root, named)
                return self.attach(named, options)
            if isinstance(named, Tombstone):
                if named.reason not in FREES_ID:
                    raise _tombstone_error(named)
                if options.run_number:
                    raise SupersededError(
                        f"workflow {workflow_id!r}: registry/{named.run_number} was {named.reason.lower()}, and this submission "
                        "may make no other run"
                    )
            created = self._created(root, workflow_id, options, named.run_number + 1 if named is not None else 1)
            manager, there = self._of_a_manager(options, "start", created)
            if isinstance(there, Created) and there.run_uuid == created.run_uuid:
                return RunHandle(manager, self._address(there))

    def attach(self, named: Created, options: RunOptions = RunOptions(), *, take_over: bool = False) -> RunHandle:
        """Wait on a run through the manager that owns it, or claim it where nobody does, or follow it.

        Raises:
            InUse: under the operator, another object's run lives. Superseded: a later attempt owns it.
        """
        log = RunLog(self._store, named)
        state = log.replay()
        if not state.is_finished and not state.released and not take_over:
            manager = discovery.find(state.owner.address)
            there = discovery.answers(manager, options.unresponsive) if manager is not None else None
            if there is not None and there.manager == state.owner.manager and _same_object(state.owner, options):
                return RunHandle(manager, self._address(named))
        again = options.retry_failed and state.status is WorkflowStatus.FAILED
        alone = not state.is_finished and (options.uid or take_over or state.released or self._is_silent(state.owner))
        if again or alone:
            try:
                return self._claim(log, state, options, take_over=take_over, retry_failed=again)
            except (WorkflowInUseError, WorkflowConflictError):
                if options.uid:
                    raise
                # Somebody else claimed it, or it ended, since it was read: it is followed.
        return RunHandle(discovery.find_or_make(self._store.url, options.unresponsive), self._address(named))

    def resume(self, workflow_id: str, *, take_over: bool = False, options: RunOptions = RunOptions()) -> RunHandle:
        """Go on with a RESUMABLE or FAILED run. One that SUCCESSFUL is only waited for.

        Raises:
            WorkflowNotFoundError: nothing under this id; nothing was written.
            InUse: its owner lives.
            WorkflowNotResumableError: it was canceled.
        """
        named = self.find(workflow_id)
        log = RunLog(self._store, named)
        state = log.replay()
        status = state.terminal[1].status if state.terminal is not None else WorkflowStatus.RUNNING
        if status is WorkflowStatus.CANCELED:
            raise WorkflowNotResumableError(
                f"workflow {workflow_id!r} was canceled; a canceled run cannot be resumed", workflow_id=workflow_id
            )
        if status is not WorkflowStatus.SUCCESSFUL:
            failed = status is WorkflowStatus.FAILED
            return self._claim(log, state, options, take_over=take_over, retry_failed=failed)
        return RunHandle(discovery.find_or_make(self._store.url, options.unresponsive), self._address(named))

    def find(self, workflow_id: str) -> Created:
        """The run that the id names.

        Raises:
            WorkflowNotFoundError: none.
        """
        named = registry.current_entry(self._store, workflow_id)
        if named is None or (isinstance(named, Tombstone) and named.reason in FREES_ID):
            raise WorkflowNotFoundError(
                f"no workflow {workflow_id!r} is stored at {self._store.url}; list_all() shows what is",
                workflow_id=workflow_id,
            )
        if isinstance(named, Tombstone):
            raise _tombstone_error(named)
        return named

    def wait(self, handle: RunHandle) -> RunResult:
        """How a run ended; goes on with it by itself where its owner is lost meanwhile.

        Raises:
            Superseded, WorkflowNotFoundError: it was deleted meanwhile.
        """
        while True:
            try:
                ended: RunResult = discovery.ask(handle.manager.wait.remote(handle.run))
                return ended
            except (UnavailableError, ray.exceptions.RayActorError):
                named = self.find(handle.run.workflow_id)
                if named.run_uuid != handle.run.run_uuid:
                    raise SupersededError(
                        f"workflow {named.workflow_id!r}: the run that was waited for was deleted, and another one was "
                        "made under its id; get_output gives that one's value",
                        workflow_id=named.workflow_id,
                    ) from None
                handle = self.attach(named)

    def _claim(
        self, log: RunLog, state: RunState, options: RunOptions, *, take_over: bool = False, retry_failed: bool = False
    ) -> RunHandle:
        named = log.created
        encoder = Encoder(log.blobs, log.paths.folder)
        request = ClaimRequest(
            named.workflow_id,
            named.run_number,
            options.uid,
            options.attempt,
            take_over=take_over,
            retry_failed=retry_failed,
            functions=functions.present(state, lambda function: encoder.function(function, function.__qualname__)),
        )
        manager, _ = self._of_a_manager(options, "claim", request)
        return RunHandle(manager, self._address(named))

    def _of_a_manager(self, options: RunOptions, method: str, argument: Any) -> tuple[Any, Any]:
        """Ask this environment's manager; one that is just leaving is waited for to be gone, and made anew.

        Returns:
            The manager that answered, and its answer.
        """
        deadline = time.monotonic() + options.unresponsive
        while True:
            try:
                manager = discovery.find_or_make(self._store.url, options.unresponsive)
                return manager, discovery.ask(getattr(manager, method).remote(argument))
            except (UnavailableError, ray.exceptions.RayActorError) as error:
                if isinstance(error, StoreUnavailableError) or time.monotonic() > deadline:
                    raise
            time.sleep(LEAVING_PAUSE)

    def _named(self, workflow_id: str, options: RunOptions) -> Created | Tombstone | None:
        if not options.run_number:
            return registry.current_entry(self._store, workflow_id)
        highest = registry.latest_run_number(self._store, workflow_id)
        if highest > options.run_number:
            raise SupersededError(f"workflow {workflow_id!r}: run {options.run_number} was replaced by run {highest}")
        return registry.read_entry(self._store, workflow_id, options.run_number)

    def _created(self, root: StepNode, workflow_id: str, options: RunOptions, run_number: int) -> Created:
        run_number = options.run_number or run_number
        run_uuid = options.run_uuid or uuid.uuid4().hex
        paths = RunPaths(workflow_id, run_number, run_uuid)
        blobs = Blobs(self._store, paths)
        graph = Encoder(blobs, paths.folder).encode(root)
        inline, blob = blobs.store_graph(graph)
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
            main_script=functions.main_file(),
            versions=versions(),
        )

    def _check_shape(self, root: StepNode, named: Created) -> None:
        if _digest(ShapeEncoder().encode(root)) != named.shape:
            raise WorkflowConflictError(
                f"workflow id {named.workflow_id!r} is used by another DAG (other step ids, functions or edges); give "
                "another workflow_id, or delete the old one",
                workflow_id=named.workflow_id,
            )

    def _address(self, created: Created) -> RunAddress:
        return RunAddress(self._store.url, created.workflow_id, created.run_number, created.run_uuid)

    def _is_silent(self, owner: Owner) -> bool:
        return heartbeat_expired(self._store, owner.manager)


def _same_object(owner: Owner, options: RunOptions) -> bool:
    return not options.uid or owner.uid == options.uid


def _digest(graph: Graph) -> str:
    return hashlib.sha256(graph.shape().encode()).hexdigest()


def _tombstone_error(tombstone: Tombstone) -> WorkflowExecutionError:
    text = tombstone.error.message if tombstone.error is not None else tombstone.reason
    return WorkflowExecutionError(
        f"workflow {tombstone.workflow_id!r} ended {tombstone.status} before it began: {text}"
    )
