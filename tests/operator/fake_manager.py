"""A FAKE entrypoint and manager: writes a run's log as the engine does, step by step, when a test lets it.

Played by the fake Ray in place of `python -m workflow.entrypoint`. The log is real: what it writes is claimed, fenced
and folded by the library's own code.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections import defaultdict

from tests.operator.fake_ray import FakeJob
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
from workflow.submission import PROGRAM, ExitCode, Refusal, Submission

NOTHING = Value(inline=b"", size=0)
PAUSE = 0.02


class FakeManager:
    """Plays every submission.

    Attributes:
        steps: how many a run has; they are a chain, and an entrypoint named `trip:empty` has one.
        payloads: the submissions so far, in order.
        started: (run, step) -> how often it was started, over all epochs.
    """

    def __init__(self, steps: int = 3) -> None:
        self.steps = steps
        self.payloads: list[Submission] = []
        self.started: dict[tuple[str, str], int] = defaultdict(int)
        self._allowed = 0

    def allow(self, steps: int) -> None:
        """Let runs commit up to so many steps in all; one more for the end."""
        self._allowed = steps

    def allow_all(self) -> None:
        """Let runs go to their ends."""
        self.allow(self.steps + 1)

    async def play(self, job: FakeJob) -> ExitCode:
        """The behaviour of a submission: returns the entrypoint's exit code."""
        words = shlex.split(job.body["entrypoint"])
        assert tuple(words[:3]) == PROGRAM, words
        told = Submission.parse(words[3])
        self.payloads.append(told)
        store = open_store(told.store)
        owner = Owner(manager=f"fake-{told.uid}-{told.attempt}", incarnation="1", uid=told.uid, attempt=told.attempt)
        try:
            return await self._own(store, told, owner)
        except (SupersededError, FencedError):
            return ExitCode.SUPERSEDED
        except WorkflowInUseError:
            return ExitCode.IN_USE
        except WorkflowConflictError:
            return ExitCode.FINISHED

    async def _own(self, store: Store, told: Submission, owner: Owner) -> ExitCode:
        store.overwrite(keys.heartbeat(owner.manager), b"{}")
        if told.entrypoint.startswith("missing:"):
            error = ErrorInfo(
                Refusal.ENTRYPOINT_INVALID.value, "there is no module 'missing'; spec.entrypoint names it"
            )
            named = Tombstone(
                told.workflow_id,
                told.run_number,
                WorkflowStatus.FAILED,
                Refusal.ENTRYPOINT_INVALID.value,
                time.time(),
                owner.uid,
                error,
            )
            registry.register(store, named)
            return ExitCode.FINISHED
        graph = _chain(self.steps)
        made = Created(
            told.workflow_id,
            told.run_number,
            told.run_uuid,
            owner,
            graph.shape(),
            time.time(),
            graph,
            max_resumes=told.max_resumes,
            code=told.code,
        )
        there = registry.register(store, made)
        if isinstance(there, Tombstone):
            return ExitCode.FINISHED if there.uid == owner.uid else ExitCode.SUPERSEDED
        log = RunLog(store, there)
        state = log.replay()
        if there is not made and state.owner != owner:
            claim(log, state, Claimant(owner, time.time()))
        return await self._run(log, state)

    async def _run(self, log: RunLog, state: RunState) -> ExitCode:
        while not state.is_finished:
            await self._turn(log, state)
            if log.inbox():
                stopped = cancellations(state, list(state.ready.values()), "Canceled")
                self._append(log, state, *stopped, _end(WorkflowStatus.CANCELED, state, "Canceled"))
            elif state.succeeded == self.steps:
                self._append(log, state, _end(WorkflowStatus.SUCCESSFUL, state, "Succeeded"))
            else:
                step = next(one for one in state.steps.values() if one.phase is not StepPhase.COMMITTED)
                name = step.spec.step_id
                self.started[state.created.run_uuid, name] += 1
                now = time.time()
                self._append(log, state, StepStarted(name, state.epoch, 1, now))
                self._append(log, state, StepCommitted(name, state.epoch, NOTHING, text='"done"'))
        return ExitCode.FINISHED

    async def _turn(self, log: RunLog, state: RunState) -> None:
        """Wait until a test allows the next step, or something lies in the inbox."""
        while state.succeeded >= self._allowed and not log.inbox():
            await asyncio.sleep(PAUSE)
            log.check_fence(state.seq)

    def _append(self, log: RunLog, state: RunState, *records: Record) -> None:
        log.append(state.seq + 1, records)
        log.fold(state, state.seq + 1, records)


def _chain(length: int) -> Graph:
    names = [f"step-{number}" for number in range(1, length + 1)]
    steps = [
        StepSpec(name, name, "", f"trip.{name}", NOTHING, (names[index - 1],) if index else ())
        for index, name in enumerate(names)
    ]
    return Graph(tuple(steps), names[-1])


def _end(status: WorkflowStatus, state: RunState, reason: str) -> StatusChanged:
    return StatusChanged(status, state.epoch, time.time(), reason)
