"""The process of a manager is killed at failpoints on a real Ray, which starts it again, and the run continues.

The tests in `tests/faults` cover every pass of every failpoint without Ray. Here Ray must notice the death and start
the actor again with the same arguments. Driver and workers must find the new process.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

import workflow
from tests.support import invariants, manager_actors
from tests.support.history import Expected
from tests.support.marks import Marks
from workflow.engine.driver import actor, discovery
from workflow.engine.driver.actor import ManagerActor
from workflow.engine.owner.manager import Manager
from workflow.log import keys
from workflow.log.failpoints import AFTER_CLAIM, AFTER_COMMIT, AFTER_REGISTER, BEFORE_COMMIT
from workflow.model import records as r
from workflow.store import Store, open_store

pytestmark = pytest.mark.usefixtures("storage")

STEPS = {"first", "spread", "spread/part0", "spread/part1", "spread/part2", "spread/join", "last"}


@workflow.step(name="first")
def first(marks: Marks) -> int:
    marks.started("first")
    return 10


@workflow.step(name="spread")
def spread(marks: Marks, value: int) -> Any:
    marks.started("spread")
    return join.step(marks, [part.options(name=f"part{n}").step(marks, n, value) for n in range(3)])


@workflow.step
def part(marks: Marks, n: int, value: int) -> int:
    marks.started(f"spread/part{n}")
    return n * value


@workflow.step(name="join")
def join(marks: Marks, values: list[int]) -> int:
    marks.started("spread/join")
    return sum(values)


@workflow.step(name="last")
def last(marks: Marks, value: int) -> int:
    marks.started("last")
    return value + 1


@dataclass(frozen=True)
class Death:
    """The death of one process of the manager.

    Attributes:
        point: the failpoint.
        nth: the pass of the failpoint, counted from 1.
        stored: how many segments the run has at the death.
        done: the steps whose execution they contain.
        again: a step with an attempt that is lost by the death.
    """

    point: str
    nth: int
    stored: int
    done: frozenset[str] = frozenset()
    again: str = ""

    @property
    def place(self) -> str:
        """The name of the death among the marks."""
        return f"{self.point}-{self.nth}"


class Deaths:
    """Failpoints that kill this process at the first death that no earlier process has died.

    Args:
        marks: the marks that record the deaths.
        store_url: the address of the store.
        workflow_id: the workflow id of the only run of this manager.
        deaths: the deaths in order, one for each process.
    """

    def __init__(self, marks: Marks, store_url: str, workflow_id: str, deaths: Sequence[Death]) -> None:
        died = marks.died()
        self._death = next((death for death in deaths if death.place not in died), None)
        self._passed = 0
        self._marks = marks
        self._store = open_store(store_url)
        self._workflow_id = workflow_id

    def reach(self, point: str) -> None:
        """Die if this is the pass of the next death."""
        if self._death is not None and point == self._death.point:
            self._passed += 1
            if self._passed == self._death.nth:
                self._marks.die_once(self._death.place, self._stored)

    def _stored(self) -> str:
        return str(sum("/log/" in info.key for info in self._store.list(keys.runs(self._workflow_id))))


class MortalManager(ManagerActor):
    """A manager that dies at failpoints."""

    def __init__(self, store_url: str, manager_id: str, address: str, *deadly: Any) -> None:
        marks, workflow_id, deaths = deadly
        failpoints = Deaths(marks, store_url, workflow_id, deaths)
        actor.Manager = functools.partial(Manager, failpoints=failpoints)  # type: ignore[assignment, misc]
        super().__init__(store_url, manager_id, address)


def make(store: Store, *deadly: Any) -> None:
    """Create the manager that `run` will find, as `run` would create it, but with the deaths."""
    name = f"manager-{discovery.fingerprint(store.url)}"
    manager_actors.end(name)
    forever = {"max_restarts": -1, "max_task_retries": -1, "max_concurrency": discovery.CALLS}
    manager_actors.make(MortalManager, store.url, name, *deadly, **forever)


def executed_up_to(store: Store, workflow_id: str, seq: int) -> set[str]:
    """Return the steps whose value or expansion is in the segments up to `seq`."""
    kinds = (r.StepCommitted, r.StepExpanded)
    written = [each.record for each in invariants.log_of(store, workflow_id) if each.seq <= seq]
    return {record.step_id for record in written if isinstance(record, kinds)}


AFTER_AN_OUTCOME = Death(AFTER_COMMIT, 2, stored=2, done=frozenset({"first"}))


@pytest.mark.parametrize(
    "deaths",
    [
        pytest.param([Death(AFTER_REGISTER, 1, stored=0)], id="after the registry entry"),
        pytest.param([Death(AFTER_COMMIT, 1, stored=1, again="first")], id="after the first start"),
        pytest.param([Death(BEFORE_COMMIT, 2, stored=1, again="first")], id="before the first outcome"),
        pytest.param([AFTER_AN_OUTCOME], id="after the first outcome"),
        pytest.param(
            [Death(BEFORE_COMMIT, 3, stored=2, done=frozenset({"first"}), again="spread")], id="before the expansion"
        ),
        pytest.param([Death(AFTER_COMMIT, 3, stored=3, done=frozenset({"first", "spread"}))], id="after the expansion"),
        pytest.param(
            [AFTER_AN_OUTCOME, Death(AFTER_CLAIM, 1, stored=3, done=frozenset({"first"}))],
            id="after the first outcome, then after the claim",
        ),
    ],
)
def test_no_committed_step_runs_again_after_manager_deaths(
    marks: Marks, wid: str, store: Store, deaths: list[Death]
) -> None:
    make(store, marks, wid, deaths)
    assert last.step(marks, spread.step(marks, first.step(marks))).run(wid) == 31
    assert marks.died() == {death.place: str(death.stored) for death in deaths}
    history = invariants.check(store, wid, expected=Expected("31"))
    assert history.claims == {1: 0, **{epoch: death.stored + 1 for epoch, death in enumerate(deaths, 2)}}
    assert set(history.steps) == STEPS

    starts = marks.starts()
    for death in deaths:
        assert executed_up_to(store, wid, death.stored) == death.done
        assert {step_id: starts[step_id] for step_id in death.done} == dict.fromkeys(death.done, 1)
    assert set(starts) == STEPS
    again = starts - Counter(STEPS)
    assert set(again) <= {death.again for death in deaths}
    assert all(again[death.again] == 1 for death in deaths if death.point == BEFORE_COMMIT)
