"""The process of a manager is killed at every pass of every failpoint, and in the middle of every kind of write.

The next process finishes the run. The value is that of the oracle, no committed step runs again, and all invariants
hold in the store.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.manager_process import FINISHED, KILLED, FaultyRun, KillAfterOutcomes, SignalAt
from tests.faults.shapes import SHAPES
from workflow.log import failpoints
from workflow.log.failpoints import (
    AFTER_COMMIT,
    BEFORE_BLOB,
    BEFORE_CLAIM,
    BEFORE_COMMIT,
    BEFORE_REGISTER,
    BEFORE_SNAPSHOT,
)

CLAIM_POINTS = {failpoints.BEFORE_CLAIM, failpoints.AFTER_CLAIM}
REGISTRY_POINTS = {failpoints.BEFORE_REGISTER, failpoints.AFTER_REGISTER}
FAULTS = {
    **{point: SignalAt(point) for point in failpoints.ALL},
    "torn blob": SignalAt(BEFORE_BLOB, torn=True),
    "torn segment": SignalAt(BEFORE_COMMIT, torn=True),
    "torn claim": SignalAt(BEFORE_CLAIM, torn=True),
    "torn registry entry": SignalAt(BEFORE_REGISTER, torn=True),
    "torn snapshot": SignalAt(BEFORE_SNAPSHOT, torn=True),
}


def nth(fault: SignalAt, number: int) -> SignalAt:
    """Return the same fault at the n-th pass of its failpoint."""
    return SignalAt(fault.point, number, torn=fault.torn)


@pytest.mark.parametrize("fault", [name for name in FAULTS if FAULTS[name].point not in CLAIM_POINTS])
def test_first_process_killed_at_each_pass(tmp_path: Path, fault: str) -> None:
    number = 1
    while _is_killed_at_pass(FaultyRun(tmp_path / str(number), "mixed"), nth(FAULTS[fault], number)):
        number += 1
    assert number > 1, "the failpoint was never reached"


@pytest.mark.parametrize("fault", [name for name in FAULTS if FAULTS[name].point not in REGISTRY_POINTS])
def test_second_process_killed_at_each_pass(tmp_path: Path, fault: str) -> None:
    number = 1
    while True:
        run = FaultyRun(tmp_path / str(number), "mixed")
        assert run.run_process(SignalAt(AFTER_COMMIT, 3)) == KILLED
        if not _is_killed_at_pass(run, nth(FAULTS[fault], number)):
            break
        number += 1
    assert number > 1, "the failpoint was never reached"


def _is_killed_at_pass(run: FaultyRun, fault: SignalAt) -> bool:
    """Return whether the process reached this pass and was killed. Another process finishes the run."""
    code = run.run_process(fault)
    run.history()
    run.finish()
    assert code in (KILLED, FINISHED)
    return code == KILLED


@pytest.mark.parametrize("shape", ["mixed", "ephemeral"])
@pytest.mark.parametrize("seed", range(8))
def test_many_processes_killed_at_random(tmp_path: Path, seed: int, shape: str) -> None:
    chance = random.Random(seed)
    run = FaultyRun(tmp_path, shape)
    for _ in range(chance.randint(4, 12)):
        run.run_process(nth(chance.choice(list(FAULTS.values())), chance.randint(1, 4)))
        run.history()
    run.finish()


@pytest.mark.parametrize("shape", ["chain", "mixed"])
def test_memory_lost_after_every_outcome(tmp_path: Path, shape: str) -> None:
    """Each process stores exactly one execution: a value, an expansion, or an error that is caught."""
    run = FaultyRun(tmp_path, shape)
    done = 0
    while run.run_process(KillAfterOutcomes(1), one_step=True) == KILLED:
        history = run.history()
        assert history is not None
        assert len(history.executed) == done + 1
        done += 1
    history = run.finish()
    assert len(history.executed) == done
    # The last two processes find the run finished. Every other process executed one step.
    assert len(set(run.executions())) == run.processes - 2
    assert set(history.claims) == set(range(1, done + 1)), "a process claimed the run after its last outcome"


@pytest.mark.parametrize(
    "fault", ["before_blob", "torn blob", "after_blob", "before_commit", "torn segment", "after_commit"]
)
def test_kill_at_expansion_leaves_all_children_or_none(tmp_path: Path, fault: str) -> None:
    """There are 500 children, so that their DAG is a blob. Their ids do not depend on the process that made them."""
    shape = SHAPES["map of 500"]
    top, every = {spec.step_id for spec in shape.dag.steps}, shape.steps
    seen = set()
    for number in range(1, 6):
        run = FaultyRun(tmp_path / str(number), "map of 500")
        code = run.run_process(nth(FAULTS[fault], number))
        history = run.history()
        if history is not None:
            assert set(history.steps) in (top, every)
            seen.add(len(history.steps))
        assert set(run.finish().steps) == every
        if code == FINISHED:
            break
    assert seen >= ({len(top)} if fault.endswith("blob") else {len(top), len(every)})


def test_map_of_1000_killed_at_10_50_and_99_percent(tmp_path: Path) -> None:
    run = FaultyRun(tmp_path, "map of 1000")
    done: list[str] = []
    for percent in (10, 50, 99):
        assert run.run_process(KillAfterOutcomes(percent * 10 - len(done))) == KILLED
        history = run.history()
        assert history is not None
        assert percent * 10 <= len(history.executed) < percent * 10 + 25
        assert history.executed[: len(done)] == done
        done = history.executed
    history = run.finish()
    assert history.executed[: len(done)] == done
    again = {step_id for epoch, step_id in run.executions() if epoch == 4}
    assert again.isdisjoint(done), "a committed step was executed again"
    assert len(again) == 1_004 - len(done)
