"""The actor around a manager, on a real Ray: it leaves when idle and is made anew; an absent store fails no step."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import ray

import workflow
from tests.support.marks import Marks
from tests.support.waiting import until
from workflow.engine import actor, managers
from workflow.engine.actor import NAMESPACE, ManagerActor
from workflow.engine.manager import ClaimRequest
from workflow.errors import StoreUnavailable, Unavailable
from workflow.store import Store

pytestmark = pytest.mark.usefixtures("storage")


@workflow.step
def one() -> int:
    return 1


class ImpatientManager(ManagerActor):
    """Leaves after a moment without a run."""

    def __init__(self, *arguments: str) -> None:
        actor.IDLE_EXIT = 0.5
        super().__init__(*arguments)


def make(store: Store, name: str) -> Any:
    remote = ray.remote(num_cpus=0, concurrency_groups=managers.GROUPS)(ImpatientManager)
    options = {"name": name, "namespace": NAMESPACE, "lifetime": "detached", "max_restarts": -1}
    return remote.options(**options).remote(store.url, uuid.uuid4().hex, name)


def test_an_idle_manager_leaves_for_good_and_takes_its_heartbeat_along(store: Store) -> None:
    name = f"manager-impatient-{uuid.uuid4().hex[:6]}"
    impatient = make(store, name)
    me = ray.get(impatient.ping.remote())
    assert store.get(f"managers/{me.manager}") is not None
    until(lambda: managers.find(name) is None)
    assert store.get(f"managers/{me.manager}") is None
    with pytest.raises((ray.exceptions.RayActorError, Unavailable)):
        ray.get(impatient.claim.remote(ClaimRequest("nobody", 1)))


def test_a_workflow_under_the_name_of_a_manager_that_is_leaving_runs_on_the_next_one(store: Store) -> None:
    name = f"manager-{managers.fingerprint(store.url)}"
    before = managers.find(name)
    if before is not None:
        ray.kill(before, no_restart=True)
        until(lambda: managers.find(name) is None)
    make(store, name)
    for _ in range(5):
        assert one.step().run() == 1
    until(lambda: managers.find(name) is None)
    assert one.step().run() == 1


def test_a_step_that_cannot_reach_its_store_is_executed_until_it_can(marks: Marks, wid: str) -> None:
    """Ray's own tries are used up after four; a store that is away for longer is still nobody's failure."""

    @workflow.step
    def unlucky(marks: Marks) -> str:
        marks.started("unlucky")
        if len(marks.order()) < 6:
            raise StoreUnavailable("the store is away")
        return "back"

    assert unlucky.step(marks).run(wid) == "back"
    assert marks.starts() == {"unlucky": 6}
