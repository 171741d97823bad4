"""The order of the reads of a round, and the events of a head that is gone."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from tests.unit.operator import build
from tests.unit.operator.build import NOW, cluster, head, job, observation_of, read, state, view, workflow
from tests.unit.operator.cases import J, W
from workflow_operator.api.status import HeadIdentity, Phase
from workflow_operator.core.decide import decide
from workflow_operator.core.observation import ClusterView, Disruption, SecretView
from workflow_operator.observe import Clients, observe


@dataclass
class World:
    """All systems that a round reads. After each read of the submission or the log, the run may have advanced.

    Attributes:
        named: the RayCluster in the status, or None.
        ended: whether the run succeeded and its driver exited.
        ends_between: whether the run ends after the first of the two reads.
        reads: the reads so far.
    """

    named: ClusterView | None = field(default_factory=cluster)
    ended: bool = False
    ends_between: bool = True
    reads: list[str] = field(default_factory=list)

    def clients(self) -> Clients:
        world = cast("Any", self)
        return Clients(world, world, world, world, world)

    async def owned(self, namespace: str, uid: str) -> tuple[ClusterView, ...]:
        return (self.named,) if self.named else ()

    async def secret(self, namespace: str, name: str) -> SecretView:
        return SecretView(name, True)

    async def state(self, *_: object) -> Any:
        reply = job(J.SUCCEEDED, 0) if self.ended else job()
        self._after("submission")
        return reply

    async def read(self, *_: object) -> Any:
        found = read(view(W.SUCCESSFUL if self.ended else W.RUNNING))
        self._after("log")
        return found

    async def disruption(self, namespace: str, pod_uid: str) -> Disruption:
        self.reads.append(f"events of {pod_uid}")
        return Disruption("PreemptionByScheduler")

    async def namespace_terminating(self, namespace: str) -> bool:
        return False

    def _after(self, what: str) -> None:
        self.reads.append(what)
        self.ended = self.ended or self.ends_between


async def test_run_that_ends_between_the_reads_is_no_failure() -> None:
    """The submission is read first. Otherwise it would have ended, and the log would still show a running run."""
    world = World()
    observation = await observe(world.clients(), workflow(state(Phase.RUNNING)), build.DEFAULTS)
    assert world.reads == ["submission", "log"]
    decision = decide(observation, NOW)
    assert decision.state.phase is Phase.SUCCEEDED
    assert decision.state.last_failure is None


async def test_submission_that_ended_early_is_a_failure() -> None:
    world = World(ends_between=False)
    observation = await observe(world.clients(), workflow(state(Phase.RUNNING)), build.DEFAULTS)
    early = replace(observation, submission=job(J.SUCCEEDED, 0))
    assert decide(early, NOW).state.phase is Phase.RESUMABLE


async def test_observation_is_cancelled_before_its_reads_start() -> None:
    """A coroutine that is never awaited would be reported by the interpreter, and pytest makes that an error."""
    observing = asyncio.create_task(observe(World().clients(), workflow(state(Phase.RUNNING)), build.DEFAULTS))
    await asyncio.sleep(0)
    observing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await observing
    gc.collect()


EXPLAINED = head(deleting=True, disruption=Disruption("PreemptionByScheduler"))
OTHER = head(identity=HeadIdentity(pod_uid="pod-2", container_id="c"))


@pytest.mark.parametrize(
    ("named", "phase", "reads"),
    [
        pytest.param(cluster(), Phase.RUNNING, [], id="the head exists"),
        pytest.param(cluster(head=head(deleting=True)), Phase.RUNNING, ["events of pod-1"], id="it is being deleted"),
        pytest.param(cluster(head=EXPLAINED), Phase.RUNNING, [], id="it is being deleted, and a condition shows why"),
        pytest.param(cluster(head=None), Phase.RUNNING, ["events of pod-1"], id="the head is gone"),
        pytest.param(cluster(head=OTHER), Phase.RUNNING, ["events of pod-1"], id="the head was replaced"),
        pytest.param(cluster(head=None), Phase.RESUMABLE, [], id="no attempt"),
    ],
)
async def test_events_are_read_only_for_a_head_that_is_gone(named: ClusterView, phase: Phase, reads: list[str]) -> None:
    world = World(named, ends_between=False)
    recorded = state(Phase.RUNNING).cluster
    obj = workflow(state(phase, cluster=recorded))
    observation = await observe(world.clients(), obj, build.DEFAULTS)
    assert [read for read in world.reads if read.startswith("events")] == reads
    assert (observation.disruption is not None) is bool(reads)
    assert observation.workflow == observation_of(obj).workflow
