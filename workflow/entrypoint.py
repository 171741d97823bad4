"""The program of a Ray job that the operator submits: `python -m workflow.entrypoint '<json>'`.

It loads the workflow that the Workflow resource names, creates its run or attaches to it, prints its progress, and
exits. The log records how the run ended, and the exit code only shows why this submission exited. Both the
command line and the exit codes are defined in `workflow.submission`.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

import ray

from workflow import reading, requests, session
from workflow.engine.driver import discovery
from workflow.engine.driver.client import Client, RunHandle, RunOptions
from workflow.engine.worker.run_values import shared_store
from workflow.errors import (
    CorruptLogError,
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
from workflow.log import keys, registry
from workflow.model.records import Created
from workflow.model.run_view import ErrorInfo, RunView
from workflow.store.port import Store
from workflow.submission import ExitCode, Refusal, Submission, decode_args

FOLLOW_INTERVAL: Final = 0.5
"""Seconds between two looks into the log while the run is followed."""

EXIT_CODES: Final[tuple[tuple[type[WorkflowError], ExitCode], ...]] = (
    (SupersededError, ExitCode.SUPERSEDED),
    (WorkflowInUseError, ExitCode.IN_USE),
    (UnavailableError, ExitCode.MANAGER_UNRESPONSIVE),
    (StoreRefusedError, ExitCode.STORE_REFUSED),
    (WorkflowConflictError, ExitCode.CONFLICT),
    (InvalidInputError, ExitCode.BAD_INPUT),
    (CorruptLogError, ExitCode.CHECKPOINTS_UNREADABLE),
)
"""Errors that leave the run as it is, with their exit codes. The first class that matches counts."""


def main(arguments: list[str]) -> ExitCode:
    """Execute one submission and return the exit code of the process.

    Args:
        arguments: the command line without the program: one JSON text.
    """
    for stream in (sys.stdout, sys.stderr):  # a text that is not valid UTF-8 must not end the submission
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        if len(arguments) != 1:
            raise InvalidInputError("usage: python -m workflow.entrypoint '<json>'")
        return _execute(Submission.parse(arguments[0]))
    except WorkflowError as error:
        for kind, code in EXIT_CODES:
            if isinstance(error, kind):
                return _exit(code, error)
        raise


def _exit(code: ExitCode, error: WorkflowError) -> ExitCode:
    print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return code


def _execute(submission: Submission) -> ExitCode:
    ray.init()
    store = shared_store(submission.store)
    session.init(store.url)
    client = Client(store)
    try:
        handle = _attach_or_create(client, store, submission)
    except UnavailableError:  # some of these errors are a WorkflowConflictError, too
        raise
    except (EntrypointError, WorkflowConflictError) as error:
        return _refuse(store, submission, error)
    except WorkflowExecutionError as error:  # a tombstone has the run's number: the run was ended before its creation
        return _exit(ExitCode.FINISHED, error)
    return _follow(store, handle, submission)


def _attach_or_create(client: Client, store: Store, submission: Submission) -> RunHandle:
    """Attach to the run of this Workflow object, with the DAG that it was created with; create it if there is none.

    A resume loads no entrypoint, so that a missing module of the image cannot prevent it.
    """
    options = _run_options(submission)
    entry = registry.read_entry(store, submission.workflow_id, submission.run_number)
    if isinstance(entry, Created) and _is_owned(store, entry, submission):
        return client.attach(entry, options)
    if entry is None and submission.run_exists:
        key = keys.registry_entry(submission.workflow_id, submission.run_number)
        text = f"{key} is missing, although this run was read before: the store lost it; restore it from a copy"
        raise CorruptLogError(text, key=key, missing=True)
    root = load(submission.entrypoint, _arguments(store, submission))
    return client.start(root, submission.workflow_id, options)


def _is_owned(store: Store, created: Created, submission: Submission) -> bool:
    """Return whether this Workflow object created the run or made its last claim."""
    if created.owner.uid == submission.uid:
        return True
    view = reading.read_run(store, created.workflow_id, created.run_number)
    return view is not None and view.owner is not None and view.owner.uid == submission.uid


def _arguments(store: Store, submission: Submission) -> Mapping[str, Any]:
    """Return the arguments that the operator stored with the run.

    Raises:
        CorruptLogError: they are missing or damaged; the next attempt stores them again.
    """
    if not submission.args:
        return {}
    run = (submission.workflow_id, submission.run_number, submission.run_uuid)
    return decode_args(requests.read_args(store, *run, submission.args))


def _run_options(submission: Submission) -> RunOptions:
    return RunOptions(
        metadata=json.dumps(dict(submission.metadata)),
        max_resumes=submission.max_resumes,
        uid=submission.uid,
        attempt=submission.attempt,
        run_number=submission.run_number,
        run_uuid=submission.run_uuid,
        code=submission.code,
        unresponsive=submission.manager_unresponsive_seconds,
    )


def _refuse(store: Store, submission: Submission, error: WorkflowError) -> ExitCode:
    """Record in a tombstone why the run cannot be created. A run that exists already stays as it is."""
    invalid_entrypoint = isinstance(error, EntrypointError)
    reason = Refusal.ENTRYPOINT_INVALID if invalid_entrypoint else Refusal.WORKFLOW_CONFLICT
    view = requests.refuse_run(
        store,
        submission.workflow_id,
        run_number=submission.run_number,
        reason=reason.value,
        message=str(error),
        requester=requests.Requester(submission.uid, submission.attempt, f"submission {submission.attempt}"),
    )
    if view.tombstone:
        return _exit(ExitCode.FINISHED, error)
    return _exit(ExitCode.BAD_INPUT if invalid_entrypoint else ExitCode.CONFLICT, error)


def _follow(store: Store, handle: RunHandle, submission: Submission) -> ExitCode:
    """Print the run's progress until the run is finished; check regularly that its manager responds."""
    follower = reading.Follower(store, submission.workflow_id, submission.run_number)
    printer = _Printer()
    waiting = handle.manager.wait.remote(handle.run)
    last_check = time.monotonic()
    while True:
        ready, _ = ray.wait([waiting], timeout=FOLLOW_INTERVAL)
        try:
            view = follower.poll()
        except StoreUnavailableError as error:  # the manager waits for the store, too, and then continues
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            continue
        if view is not None:
            printer.show(view)
            if view.ended is not None:
                return ExitCode.FINISHED
            if view.owner is not None and view.owner.uid != submission.uid:
                raise SupersededError(
                    f"workflow {view.workflow_id!r} is no longer owned by this submission's Workflow object: "
                    f"its owner is now {_object(view.owner.uid)}"
                )
        if ready:
            discovery.ask(
                waiting, lambda: "the reply of the manager"
            )  # raises the manager's own error, if it replied with one
            raise SupersededError(
                f"the manager reported that workflow {submission.workflow_id!r} is finished, but its log continues: "
                "another process resumed it"
            )
        if time.monotonic() - last_check >= submission.manager_unresponsive_seconds / 2:
            last_check = time.monotonic()
            if not discovery.answers(handle.manager, submission.manager_unresponsive_seconds):
                raise UnavailableError(
                    f"the manager of workflow {submission.workflow_id!r} did not respond for "
                    f"{submission.manager_unresponsive_seconds:.0f} s; Ray restarts it"
                )


def _object(uid: str) -> str:
    return f"object {uid}" if uid else "not a Workflow object"


class _Printer:
    """Prints a line for each change: one for each step that has a new phase, and one for the end of the run."""

    def __init__(self) -> None:
        self._printed_phases: dict[str, str] = {}
        self._last_view: RunView | None = None

    def show(self, view: RunView) -> None:
        if view is self._last_view:  # a follower returns the same object as long as nothing changes
            return
        self._last_view = view
        for step in view.steps:
            if self._printed_phases.get(step.step_id) == step.phase:
                continue
            self._printed_phases[step.step_id] = step.phase
            print(f"epoch {view.epoch}  {step.phase:<9}  {step.step_id}{_text_of(step.error)}", flush=True)
        if view.ended is not None:
            print(f"workflow {view.workflow_id} {view.status} {view.reason}{_text_of(view.error)}", flush=True)


def _text_of(error: ErrorInfo | None) -> str:
    return f"  {error.kind}: {error.message}" if error is not None else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
