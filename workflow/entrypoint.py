"""What a Ray job of the operator executes: `python -m workflow.entrypoint '<json>'`.

Loads what the Workflow resource names, makes its run or attaches to it, prints its progress, and exits. The log says
how the run ended; the exit codes tell the operator why this submission did.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

import ray

from workflow import reading, requests, session
from workflow.engine.driver import discovery
from workflow.engine.driver.client import Client, RunHandle, RunOptions
from workflow.engine.worker.run_values import shared_store
from workflow.errors import (
    EntrypointError,
    InvalidInputError,
    StoreRefusedError,
    StoreUnavailableError,
    SupersededError,
    UnavailableError,
    WorkflowConflictError,
    WorkflowError,
    WorkflowExecutionError,
    WorkflowInUseError,
)
from workflow.loading import load
from workflow.log import registry
from workflow.model.records import Created
from workflow.model.run_view import ErrorInfo, RunView
from workflow.model.status import WorkflowStatus
from workflow.store.port import Store

ENDED, SUPERSEDED, IN_USE, UNRESPONSIVE, BAD_INPUT, CRASHED = 0, 3, 4, 5, 6, 1
"""Exit codes. ENDED: the log has an end. The others leave the run as it is."""

FOLLOW_EVERY = 0.5


@dataclasses.dataclass(frozen=True)
class Submission:
    """What the operator tells an attempt.

    Attributes:
        entrypoint: `module:attribute`.
        args: keyword arguments.
        workflow_id, n, run_uuid: the run to make or attach to, and no other.
        uid, attempt: of the Workflow object.
        store: address without credentials.
        code: sha256 of the user's code kept with the run, or empty.
        max_resumes: see `RunOptions`.
        unresponsive: seconds after which a manager that does not answer is given up.
        metadata: the user's.
    """

    entrypoint: str
    args: Mapping[str, Any]
    workflow_id: str
    run_number: int
    run_uuid: str
    uid: str
    attempt: int
    store: str
    code: str
    max_resumes: int
    unresponsive: float
    metadata: Mapping[str, Any]

    @classmethod
    def parse(cls, text: str) -> Submission:
        """From the command line's JSON.

        Raises:
            Invalid: it is no such JSON.
        """
        try:
            told = json.loads(text)
            return cls(
                entrypoint=told["entrypoint"],
                args=told["args"],
                workflow_id=told["workflowId"],
                run_number=told["runNumber"],
                run_uuid=told["runUuid"],
                uid=told["uid"],
                attempt=told["attempt"],
                store=told["store"],
                code=told["code"],
                max_resumes=told["maxResumes"],
                unresponsive=float(told["managerUnresponsiveSeconds"]),
                metadata=told["metadata"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInputError(
                f"the submission is not what the operator writes: {error!r} in {text[:500]}"
            ) from error

    def options(self) -> RunOptions:
        """For the client."""
        return RunOptions(
            metadata=json.dumps(dict(self.metadata)),
            max_resumes=self.max_resumes,
            uid=self.uid,
            attempt=self.attempt,
            run_number=self.run_number,
            run_uuid=self.run_uuid,
            code=self.code,
            unresponsive=self.unresponsive,
        )


def main(arguments: list[str]) -> int:
    """Run one submission; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        if len(arguments) != 1:
            raise InvalidInputError("usage: python -m workflow.entrypoint '<json>'")
        submission = Submission.parse(arguments[0])
        return _submit(submission)
    except SupersededError as error:
        return _exit(SUPERSEDED, error)
    except WorkflowInUseError as error:
        return _exit(IN_USE, error)
    except UnavailableError as error:
        return _exit(UNRESPONSIVE, error)
    except StoreRefusedError as error:  # credentials or rights may be set right again: no reason to end a run
        return _exit(CRASHED, error)
    except InvalidInputError as error:
        return _exit(BAD_INPUT, error)


def _exit(code: int, error: WorkflowError) -> int:
    print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return code


def _submit(submission: Submission) -> int:
    ray.init()
    store = shared_store(submission.store)
    session.init(store.url)
    client = Client(store)
    try:
        handle = _begin(client, store, submission)
    except (EntrypointError, WorkflowConflictError) as error:
        return _refuse(store, submission, error)
    except WorkflowExecutionError as error:  # a tombstone stands where the run would be: it was ended before it began
        return _exit(ENDED, error)
    return _follow(store, handle, submission)


def _begin(client: Client, store: Store, submission: Submission) -> RunHandle:
    """Take up this object's run with the DAG it began with; make it where there is none."""
    options = submission.options()
    named = registry.read_entry(store, submission.workflow_id, submission.run_number)
    if isinstance(named, Created) and named.owner.uid == submission.uid:
        return client.attach(named, options)
    root = load(submission.entrypoint, submission.args)
    return client.start(root, submission.workflow_id, options)


def _refuse(store: Store, submission: Submission, error: WorkflowError) -> int:
    """Say in the log why there is no run; a run that is there already is ended."""
    requester = requests.Requester(submission.uid, submission.attempt, f"submission {submission.attempt}")
    requests.end_run(
        store,
        submission.workflow_id,
        run_number=submission.run_number,
        status=WorkflowStatus.FAILED,
        reason=type(error).__name__,
        message=str(error),
        requester=requester,
    )
    return _exit(ENDED, error)


def _follow(store: Store, handle: RunHandle, submission: Submission) -> int:
    """Print the run's progress until it ends; watch that its manager answers."""
    follower = reading.Follower(store, submission.workflow_id, submission.run_number)
    printer = _Printer()
    waiting = handle.manager.wait.remote(handle.run)
    asked = time.monotonic()
    while True:
        ready, _ = ray.wait([waiting], timeout=FOLLOW_EVERY)
        try:
            view = follower.poll()
        except StoreUnavailableError as error:  # the manager waits for the store too, and goes on then
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            continue
        if view is not None:
            printer.show(view)
            if view.ended is not None:
                return ENDED
            if view.owner is not None and view.owner.uid != submission.uid:
                raise SupersededError(
                    f"workflow {view.workflow_id!r} is owned by object {view.owner.uid or 'none'} by now"
                )
        if ready:
            discovery.ask(waiting)  # an answer without an end in the log: it raises why
            raise SupersededError(f"workflow {submission.workflow_id!r} left this manager without an end")
        if time.monotonic() - asked >= submission.unresponsive / 2:
            asked = time.monotonic()
            if not discovery.answers(handle.manager, submission.unresponsive):
                raise UnavailableError(
                    f"the manager did not answer for {submission.unresponsive:.0f} s; Ray restarts it"
                )


class _Printer:
    """Prints what changed, a line a step."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}
        self._shown: RunView | None = None

    def show(self, view: RunView) -> None:
        if view is self._shown:  # nothing moved since
            return
        self._shown = view
        for step in view.steps:
            if self._seen.get(step.step_id) == step.phase:
                continue
            self._seen[step.step_id] = step.phase
            print(f"epoch {view.epoch}  {step.phase:<9}  {step.step_id}{_of(step.error)}", flush=True)
        if view.ended is not None:
            print(f"workflow {view.workflow_id} {view.status} {view.reason}{_of(view.error)}", flush=True)


def _of(error: ErrorInfo | None) -> str:
    return f"  {error.kind}: {error.message}" if error is not None else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
