"""A fake entrypoint and manager. It writes the log of a run as the engine does, and a test controls its progress.

The fake Ray runs it instead of `python -m workflow.entrypoint`. The log is real: the library's own code claims, fences
and folds it.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections import defaultdict
from typing import Any

from tests.operator.fake_ray import FakeJob
from workflow import requests
from workflow.errors import FencedError, SupersededError, WorkflowConflictError, WorkflowInUseError
from workflow.log import keys, registry
from workflow.log.claim import Claimant, claim
from workflow.log.run_log import RunLog
from workflow.model.failure import cancellations
from workflow.model.graph import Graph, StepSpec, Value
from workflow.model.records import Created, Record, StatusChanged, StepCommitted, StepStarted, Tombstone
from workflow.model.run_view import ErrorInfo, Owner
from workflow.model.state import RunState
from workflow.model.status import StepPhase, WorkflowStatus
from workflow.store import Store, open_store
from workflow.submission import PROGRAM, ExitCode, Refusal, Submission, decode_args

NOTHING = Value(inline=b"", size=0)
PAUSE = 0.02


class FakeManager:
    """Runs every submission.

    Attributes:
        steps: the number of steps of a run; they form a chain.
        payloads: the submissions so far, in order.
        arguments: the arguments of each run that a submission created, in order.
        result: the text of the result of a run in the log.
        exits: exit codes that the next submissions return before they do anything, as on a cluster that lacks a module.
        started: how many times each (run, step) was started, over all epochs.
    """

    def __init__(self, steps: int = 3) -> None:
        self.steps = steps
        self.payloads: list[Submission] = []
        self.arguments: list[dict[str, Any]] = []
        self.result = '"done"'
        self.exits: list[ExitCode] = []
        self.started: dict[tuple[str, str], int] = defaultdict(int)
        self._allowed = 0

    def allow(self, steps: int) -> None:
        """Allow runs to commit this many steps in total. The terminal state counts as one more step."""
        self._allowed = steps

    def allow_all(self) -> None:
        """Allow runs to finish."""
        self.allow(self.steps + 1)

    async def run(self, job: FakeJob) -> ExitCode:
        """Run a submission, and return the exit code of the entrypoint."""
        words = shlex.split(job.body["entrypoint"])
        assert tuple(words[:3]) == PROGRAM, words
        submission = Submission.parse(words[3])
        self.payloads.append(submission)
        job.log = f"output of attempt {submission.attempt}\n"
        if self.exits:
            return self.exits.pop(0)
        store = open_store(submission.store)
        owner = Owner(
            manager=f"fake-{submission.uid}-{submission.attempt}",
            incarnation="1",
            uid=submission.uid,
            attempt=submission.attempt,
        )
        try:
            return await self._own_run(store, submission, owner)
        except (SupersededError, FencedError):
            return ExitCode.SUPERSEDED
        except WorkflowInUseError:
            return ExitCode.IN_USE
        except WorkflowConflictError:
            return ExitCode.FINISHED

    async def _own_run(self, store: Store, submission: Submission, owner: Owner) -> ExitCode:
        store.overwrite(keys.heartbeat(owner.manager), b"{}")
        if submission.entrypoint.startswith("missing:"):
            error = ErrorInfo(
                Refusal.ENTRYPOINT_INVALID.value, "there is no module 'missing'; spec.entrypoint names it"
            )
            tombstone = Tombstone(
                submission.workflow_id,
                submission.run_number,
                WorkflowStatus.FAILED,
                Refusal.ENTRYPOINT_INVALID.value,
                time.time(),
                owner.uid,
                error,
            )
            registry.register(store, tombstone)
            return ExitCode.FINISHED
        if registry.read_entry(store, submission.workflow_id, submission.run_number) is None:
            self.arguments.append(_arguments(store, submission))
        graph = _chain(self.steps)
        wanted = Created(
            submission.workflow_id,
            submission.run_number,
            submission.run_uuid,
            owner,
            graph.shape(),
            time.time(),
            graph,
            max_resumes=submission.max_resumes,
            code=submission.code,
        )
        registration = registry.register(store, wanted)
        entry = registration.entry
        if isinstance(entry, Tombstone):
            return ExitCode.FINISHED if entry.uid == owner.uid else ExitCode.SUPERSEDED
        log = RunLog(store, entry)
        state = log.replay()
        if not registration.created and state.owner != owner:
            claim(log, state, Claimant(owner, time.time()))
        return await self._run_steps(log, state)

    async def _run_steps(self, log: RunLog, state: RunState) -> ExitCode:
        while not state.is_finished:
            await self._wait_until_allowed(log, state)
            if log.inbox():
                cancellation = cancellations(state, list(state.ready.values()), "Canceled")
                self._append(log, state, *cancellation, _terminal(WorkflowStatus.CANCELED, state, "Canceled"))
            elif state.succeeded == self.steps:
                self._append(log, state, _terminal(WorkflowStatus.SUCCESSFUL, state, "Succeeded"))
            else:
                step = next(step for step in state.steps.values() if step.phase is not StepPhase.COMMITTED)
                name = step.spec.step_id
                self.started[state.created.run_uuid, name] += 1
                now = time.time()
                self._append(log, state, StepStarted(name, state.epoch, 1, now))
                self._append(log, state, StepCommitted(name, state.epoch, NOTHING, text=self.result))
        return ExitCode.FINISHED

    async def _wait_until_allowed(self, log: RunLog, state: RunState) -> None:
        """Wait until a test allows the next step, or the inbox contains a request."""
        while state.succeeded >= self._allowed and not log.inbox():
            await asyncio.sleep(PAUSE)
            log.check_fence(state.seq)

    def _append(self, log: RunLog, state: RunState, *records: Record) -> None:
        log.append(state, records)


def _arguments(store: Store, submission: Submission) -> dict[str, Any]:
    if not submission.args:
        return {}
    run = (submission.workflow_id, submission.run_number, submission.run_uuid)
    return decode_args(requests.read_args(store, *run, submission.args))


def _chain(length: int) -> Graph:
    names = [f"step-{number}" for number in range(1, length + 1)]
    steps = [
        StepSpec(name, name, "", f"trip.{name}", NOTHING, (names[index - 1],) if index else ())
        for index, name in enumerate(names)
    ]
    return Graph(tuple(steps), names[-1])


def _terminal(status: WorkflowStatus, state: RunState, reason: str) -> StatusChanged:
    return StatusChanged(status, state.epoch, time.time(), reason)
