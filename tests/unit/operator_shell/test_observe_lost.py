"""The reads of one round in a namespace that is being deleted, and of a run whose data is lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.unit.operator.build import DEFAULTS, read, state, view, workflow
from workflow_operator.api.status import Phase
from workflow_operator.core.actions import RunRef
from workflow_operator.core.observation import Loss, Observation, RunRead, RunReadFailure, SecretView, StoreFailure
from workflow_operator.core.observation import WorkflowObject as Workflow
from workflow_operator.errors import RefusedError
from workflow_operator.observe import Clients, observe

LOST = RunReadFailure(StoreFailure.LOST, "nothing is left", Loss.RUN)


@dataclass
class FakePorts:
    """All ports in one. The Role of the operator may be deleted.

    Attributes:
        terminating: whether the namespace is being deleted.
        forbidden: whether reads in the namespace are refused.
        run: the newest run.
        asked: the runs whose remains were read.
    """

    terminating: bool = False
    forbidden: bool = False
    run: RunRead = field(default_factory=lambda: read(view()))
    remains: RunReadFailure | None = LOST
    asked: list[RunRef] = field(default_factory=list)

    async def namespace_terminating(self, namespace: str) -> bool:
        return self.terminating

    async def _clusters(self, *_: object) -> tuple[()]:
        if self.forbidden:
            raise RefusedError("403")
        return ()

    owned = matching = _clusters

    async def named(self, namespace: str, name: str) -> None:
        await self._clusters()

    async def disruption(self, namespace: str, pod_uid: str) -> None:
        await self._clusters()

    async def secret(self, namespace: str, name: str) -> SecretView:
        await self._clusters()
        return SecretView(name, True)

    async def read(self, *_: object) -> RunRead:
        return self.run

    async def loss(self, namespace: str, run: RunRef) -> RunReadFailure | None:
        self.asked.append(run)
        return self.remains


async def observed(ports: FakePorts, obj: Workflow) -> Observation:
    clients: Any = Clients(ports, ports, ports, ports, ports)  # type: ignore[arg-type]
    return await observe(clients, obj, DEFAULTS)


RUNNING = workflow(state(Phase.RUNNING, epoch=1))


async def test_forbidden_objects_are_absent_in_a_terminating_namespace() -> None:
    deleted = workflow(state(Phase.RUNNING, epoch=1), deleted=1.0)
    found = await observed(FakePorts(terminating=True, forbidden=True), deleted)
    assert found.namespace_terminating
    assert (found.clusters, found.named, found.secret, found.run) == ((), None, SecretView("store", False), None)


async def test_forbidden_objects_are_no_evidence_elsewhere() -> None:
    with pytest.raises(RefusedError):
        await observed(FakePorts(forbidden=True), workflow(state(Phase.RUNNING), deleted=1.0))


async def test_running_workflow_does_not_read_its_namespace() -> None:
    assert not (await observed(FakePorts(terminating=True), RUNNING)).namespace_terminating


async def test_missing_run_is_replaced_by_what_remains_of_it() -> None:
    ports = FakePorts(run=read())
    assert (await observed(ports, RUNNING)).run == LOST
    assert [(run.run_number, run.uid) for run in ports.asked] == [(1, RUNNING.uid)]


async def test_entry_that_appears_meanwhile_is_no_loss() -> None:
    """The next round reads the run again."""
    ports = FakePorts(run=read(), remains=None)
    assert (await observed(ports, RUNNING)).run == read()


async def test_run_that_was_never_read_is_not_missing() -> None:
    ports = FakePorts(run=read())
    assert (await observed(ports, workflow(state(Phase.PROVISIONING)))).run == read()
    assert ports.asked == []
