"""A manager's process is killed at named points on a real Ray, which makes it anew; the run goes on where it was.

That no point loses or doubles anything, whichever pass of it, is shown without Ray in `faults`. Here Ray notices the
death and starts the actor again with what it was made with; driver and workers, who live, find their way to it.
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
from tests.support.checker import Expected
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
    """Where a process of the manager ends.

    Attributes:
        point, nth: at which pass of which point.
        stored: segments that the run has then.
        done: steps whose execution is among them.
        again: a step whose try was under way, or has ended for nothing.
    """

    point: str
    nth: int
    stored: int
    done: frozenset[str] = frozenset()
    again: str = ""

    @property
    def place(self) -> str:
        """Its name among the marks."""
        return f"{self.point}-{self.nth}"


class Deaths:
    """Points that kill this process by the first of these deaths that no earlier process has died.

    Args:
        marks: tell who died where.
        store_url, workflow_id: of the one run that passes here.
        deaths: in their order, one for each process.
    """

    def __init__(self, marks: Marks, store_url: str, workflow_id: str, deaths: Sequence[Death]) -> None:
        died = marks.died()
        self._death = next((death for death in deaths if death.place not in died), None)
        self._passed = 0
        self._marks = marks
        self._store = open_store(store_url)
        self._workflow_id = workflow_id

    def reach(self, point: str) -> None:
        """See the port."""
        if self._death is not None and point == self._death.point:
            self._passed += 1
            if self._passed == self._death.nth:
                self._marks.die_once(self._death.place, self._stored)

    def _stored(self) -> str:
        return str(sum("/log/" in info.key for info in self._store.list(keys.runs(self._workflow_id))))


class MortalManager(ManagerActor):
    """Dies at points."""

    def __init__(self, store_url: str, manager_id: str, address: str, *deadly: Any) -> None:
        marks, workflow_id, deaths = deadly
        failpoints = Deaths(marks, store_url, workflow_id, deaths)
        actor.Manager = functools.partial(Manager, failpoints=failpoints)  # type: ignore[assignment, misc]
        super().__init__(store_url, manager_id, address)


def make(store: Store, *deadly: Any) -> None:
    """The manager that `run` will find, made as it would make it but for the deaths."""
    name = f"manager-{discovery.fingerprint(store.url)}"
    manager_actors.end(name)
    forever = {"max_restarts": -1, "max_task_retries": -1, "max_concurrency": discovery.CALLS}
    manager_actors.make(MortalManager, store.url, name, *deadly, **forever)


def executed_up_to(store: Store, workflow_id: str, seq: int) -> set[str]:
    """Steps whose value or expansion stands in the first segments."""
    kinds = (r.StepCommitted, r.StepExpanded)
    written = [each.record for each in invariants.log_of(store, workflow_id) if each.seq <= seq]
    return {record.step_id for record in written if isinstance(record, kinds)}


BEHIND_AN_OUTCOME = Death(AFTER_COMMIT, 2, stored=2, done=frozenset({"first"}))


@pytest.mark.parametrize(
    "deaths",
    [
        pytest.param([Death(AFTER_REGISTER, 1, stored=0)], id="behind the name"),
        pytest.param([Death(AFTER_COMMIT, 1, stored=1, again="first")], id="behind the first start"),
        pytest.param([Death(BEFORE_COMMIT, 2, stored=1, again="first")], id="before the first outcome"),
        pytest.param([BEHIND_AN_OUTCOME], id="behind the first outcome"),
        pytest.param(
            [Death(BEFORE_COMMIT, 3, stored=2, done=frozenset({"first"}), again="spread")], id="before the expansion"
        ),
        pytest.param(
            [Death(AFTER_COMMIT, 3, stored=3, done=frozenset({"first", "spread"}))], id="behind the expansion"
        ),
        pytest.param(
            [BEHIND_AN_OUTCOME, Death(AFTER_CLAIM, 1, stored=3, done=frozenset({"first"}))],
            id="behind the first outcome and behind the claim that follows",
        ),
    ],
)
def test_a_manager_is_killed_and_made_anew_and_no_committed_step_runs_again(
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
