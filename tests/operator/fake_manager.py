"""A fake entrypoint and manager. It writes the log of a run as the engine does, and a test controls its progress.

The fake Ray runs it instead of `python -m workflow.entrypoint`. The log is real: the library's own code claims, fences
and folds it.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from collections import defaultdict
from typing import Any

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

SUPERSEDED, IN_USE = 3, 4
NOTHING = Value(inline=b"", size=0)
PAUSE = 0.02


class FakeManager:
    """Runs every submission.

    Attributes:
        steps: the number of steps of a run; they form a chain.
        payloads: the arguments of each submission, in order.
        started: how many times each (run, step) was started, over all epochs.
    """

    def __init__(self, steps: int = 3) -> None:
        self.steps = steps
        self.payloads: list[dict[str, Any]] = []
        self.started: dict[tuple[str, str], int] = defaultdict(int)
        self._allowed = 0

    def allow(self, steps: int) -> None:
        """Allow runs to commit this many steps in total. The terminal state counts as one more step."""
        self._allowed = steps

    def allow_all(self) -> None:
        """Allow runs to finish."""
        self.allow(self.steps + 1)

    async def run(self, job: FakeJob) -> int:
        """Run a submission, and return the exit code of the entrypoint."""
        words = shlex.split(job.body["entrypoint"])
        assert words[:3] == ["python", "-m", "workflow.entrypoint"], words
        payload = json.loads(words[3])
        self.payloads.append(payload)
        store = open_store(payload["store"])
        owner = Owner(
            manager=f"fake-{payload['uid']}-{payload['attempt']}",
            incarnation="1",
            uid=payload["uid"],
            attempt=payload["attempt"],
        )
        try:
            return await self._own_run(store, payload, owner)
        except (SupersededError, FencedError):
            return SUPERSEDED
        except WorkflowInUseError:
            return IN_USE
        except WorkflowConflictError:
            return 0

    async def _own_run(self, store: Store, payload: dict[str, Any], owner: Owner) -> int:
        store.overwrite(keys.heartbeat(owner.manager), b"{}")
        if payload["entrypoint"].startswith("missing:"):
            error = ErrorInfo("EntrypointInvalid", "there is no module 'missing'; spec.entrypoint names it")
            tombstone = Tombstone(
                payload["workflowId"],
                payload["runNumber"],
                WorkflowStatus.FAILED,
                "EntrypointInvalid",
                time.time(),
                owner.uid,
                error,
            )
            registry.register(store, tombstone)
            return 0
        graph = _chain(self.steps)
        wanted = Created(
            payload["workflowId"],
            payload["runNumber"],
            payload["runUuid"],
            owner,
            graph.shape(),
            time.time(),
            graph,
            max_resumes=payload["maxResumes"],
            code=payload["code"],
        )
        registration = registry.register(store, wanted)
        entry = registration.entry
        if isinstance(entry, Tombstone):
            return 0 if entry.uid == owner.uid else SUPERSEDED
        log = RunLog(store, entry)
        state = log.replay()
        if not registration.created and state.owner != owner:
            claim(log, state, Claimant(owner, time.time()))
        return await self._run_steps(log, state)

    async def _run_steps(self, log: RunLog, state: RunState) -> int:
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
                self._append(log, state, StepCommitted(name, state.epoch, NOTHING, text='"done"'))
        return 0

    async def _wait_until_allowed(self, log: RunLog, state: RunState) -> None:
        """Wait until a test allows the next step, or the inbox contains a request."""
        while state.succeeded >= self._allowed and not log.inbox():
            await asyncio.sleep(PAUSE)
            log.check_fence(state.seq)

    def _append(self, log: RunLog, state: RunState, *records: Record) -> None:
        log.append(state, records)


def _chain(length: int) -> Graph:
    names = [f"step-{number}" for number in range(1, length + 1)]
    steps = [
        StepSpec(name, name, "", f"trip.{name}", NOTHING, (names[index - 1],) if index else ())
        for index, name in enumerate(names)
    ]
    return Graph(tuple(steps), names[-1])


def _terminal(status: WorkflowStatus, state: RunState, reason: str) -> StatusChanged:
    return StatusChanged(status, state.epoch, time.time(), reason)
