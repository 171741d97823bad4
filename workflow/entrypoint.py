"""What a Ray job of the operator executes: `python -m workflow.entrypoint '<json>'`.

Loads what the Workflow resource names, makes its run or attaches to it, prints its progress, and exits. The log, not the
exit code, says how the run ended; the codes tell the operator why this submission did.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Any

import ray

from workflow import api, reading, requests
from workflow.engine import managers
from workflow.engine.client import Client, Handle, RunOptions
from workflow.engine.worker import describe, store_at
from workflow.errors import (
    EntrypointInvalid,
    InUse,
    Invalid,
    Superseded,
    Unavailable,
    WorkflowConflict,
    WorkflowError,
    WorkflowFailed,
)
from workflow.log import naming
from workflow.model.graph import Node
from workflow.model.records import Tombstone
from workflow.model.run_view import ErrorInfo, RunView
from workflow.model.status import WorkflowStatus
from workflow.steps import StepFunction
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
    n: int
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
                n=told["n"],
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
            raise Invalid(f"the submission is not what the operator writes: {error!r} in {text[:500]}") from error

    def options(self) -> RunOptions:
        """For the client."""
        return RunOptions(
            metadata=json.dumps(dict(self.metadata)),
            max_resumes=self.max_resumes,
            uid=self.uid,
            attempt=self.attempt,
            n=self.n,
            run_uuid=self.run_uuid,
            code=self.code,
            unresponsive=self.unresponsive,
        )


def main(arguments: list[str]) -> int:
    """Run one submission; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        if len(arguments) != 1:
            raise Invalid("usage: python -m workflow.entrypoint '<json>'")
        submission = Submission.parse(arguments[0])
        return _submit(submission)
    except Superseded as error:
        return _exit(SUPERSEDED, error)
    except InUse as error:
        return _exit(IN_USE, error)
    except Unavailable as error:
        return _exit(UNRESPONSIVE, error)
    except Invalid as error:
        return _exit(BAD_INPUT, error)


def _exit(code: int, error: WorkflowError) -> int:
    print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return code


def _submit(submission: Submission) -> int:
    ray.init()
    store = store_at(submission.store)
    api.init(store.url)
    client = Client(store)
    try:
        root = load(submission.entrypoint, submission.args)
        handle = _begin(client, store, root, submission)
    except (EntrypointInvalid, WorkflowConflict) as error:
        return _refuse(store, submission, error)
    except WorkflowFailed as error:  # a tombstone stands where the run would be: it was ended before it began
        return _exit(ENDED, error)
    return _follow(store, handle, submission)


def _begin(client: Client, store: Store, root: Node, submission: Submission) -> Handle:
    """Make the run, or take up the one there is, with the DAG it began with."""
    named = naming.read_name(store, submission.workflow_id, submission.n)
    options = submission.options()
    if named is None or isinstance(named, Tombstone):
        return client.start(root, submission.workflow_id, options)
    view = reading.read_run(store, submission.workflow_id, submission.n)
    if view is not None and view.status is WorkflowStatus.FAILED:
        return client.resume(submission.workflow_id, options=options)
    return client.start(root, submission.workflow_id, options)


def load(entrypoint: str, args: Mapping[str, Any]) -> Node:
    """The workflow that an entrypoint stands for.

    Args:
        entrypoint: `module:attribute`: a step, a function that returns a Workflow, or a Workflow.
        args: keyword arguments for a step or a function.

    Raises:
        EntrypointInvalid: with what to change.
    """
    module_name, _, attribute = entrypoint.partition(":")
    target: Any = _import(module_name, entrypoint)
    for part in attribute.split("."):
        if not hasattr(target, part):
            known = ", ".join(sorted(name for name in vars(target) if not name.startswith("_"))[:30])
            raise EntrypointInvalid(
                f"spec.entrypoint {entrypoint!r}: {target.__name__!r} has no {part!r}; it has: {known or 'nothing'}. "
                "Name one of these, or add it to the code"
            )
        target = getattr(target, part)
    if isinstance(target, Node):
        if args:
            raise EntrypointInvalid(
                f"spec.args are given, but spec.entrypoint {entrypoint!r} is a composed Workflow, which takes none; "
                "leave spec.args out, or name the step itself"
            )
        return target
    if not isinstance(target, StepFunction) and not callable(target):
        raise EntrypointInvalid(
            f"spec.entrypoint {entrypoint!r} is a {type(target).__name__}; it must be a step, a function that returns "
            "a Workflow, or a Workflow"
        )
    return _call(target, entrypoint, args)


def _import(module_name: str, entrypoint: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise EntrypointInvalid(
                f"spec.entrypoint {entrypoint!r}: there is no module {error.name!r}; put {module_name}.py into the "
                f"code (a key {module_name}.py of the ConfigMap) or correct the name"
            ) from error
        raise EntrypointInvalid(
            f"spec.entrypoint {entrypoint!r}: importing {module_name!r} needs the module {error.name!r}, which is not "
            "installed; add it to spec.runtimeEnv.pip, or to the image"
        ) from error
    except SyntaxError as error:
        raise EntrypointInvalid(
            f"spec.entrypoint {entrypoint!r}: syntax error in {os.path.basename(error.filename or module_name)}, line "
            f"{error.lineno}: {error.msg}: {(error.text or '').strip()}"
        ) from error
    except Exception as error:
        last = traceback.format_exc().rstrip().splitlines()[-6:]
        raise EntrypointInvalid(
            f"spec.entrypoint {entrypoint!r}: importing {module_name!r} raised {type(error).__name__}: {error}\n"
            + "\n".join(last)
        ) from error


def _call(target: Any, entrypoint: str, args: Mapping[str, Any]) -> Node:
    function = target.__wrapped__ if isinstance(target, StepFunction) else target
    try:
        inspect.signature(function).bind(**args)
    except TypeError as error:
        raise EntrypointInvalid(
            f"spec.args {sorted(args)} do not fit {entrypoint}{inspect.signature(function)}: {error}"
        ) from error
    if isinstance(target, StepFunction):
        return target.step(**args)
    try:
        root = target(**args)
    except Exception as error:
        info = describe(error)
        raise EntrypointInvalid(
            f"spec.entrypoint {entrypoint!r} raised {info.kind}: {info.message}\n{info.traceback}"
        ) from error
    if not isinstance(root, Node):
        raise EntrypointInvalid(
            f"spec.entrypoint {entrypoint!r} returned a {type(root).__name__}; a function named there must return a "
            "Workflow (what .step(...) returns), or be a step itself"
        )
    return root


def _refuse(store: Store, submission: Submission, error: WorkflowError) -> int:
    """Say in the log why there is no run; a run that is there already is ended."""
    actor = requests.Actor(submission.uid, submission.attempt, f"submission {submission.attempt}")
    requests.end_run(
        store,
        submission.workflow_id,
        n=submission.n,
        status=WorkflowStatus.FAILED,
        reason=type(error).__name__,
        message=str(error),
        actor=actor,
    )
    return _exit(ENDED, error)


def _follow(store: Store, handle: Handle, submission: Submission) -> int:
    """Print the run's progress until it ends; watch that its manager answers."""
    follower = reading.Follower(store, submission.workflow_id, submission.n)
    printer = _Printer()
    waiting = handle.manager.wait.remote(handle.run)
    asked = time.monotonic()
    while True:
        ready, _ = ray.wait([waiting], timeout=FOLLOW_EVERY)
        view = follower.poll()
        if view is not None:
            printer.show(view)
            if view.ended is not None:
                return ENDED
            if view.owner is not None and view.owner.uid != submission.uid:
                raise Superseded(f"workflow {view.workflow_id!r} is owned by object {view.owner.uid or 'none'} by now")
        if ready:
            managers.ask(waiting)  # an answer without an end in the log: it raises why
            raise Superseded(f"workflow {submission.workflow_id!r} left this manager without an end")
        if time.monotonic() - asked >= submission.unresponsive / 2:
            asked = time.monotonic()
            if not managers.answers(handle.manager, submission.unresponsive):
                raise Unavailable(f"the manager did not answer for {submission.unresponsive:.0f} s; Ray restarts it")


class _Printer:
    """Prints what changed, a line a step."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def show(self, view: RunView) -> None:
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
