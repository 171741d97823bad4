"""The state of a run: defaults of a new step, and the sets that each start and outcome updates."""

from __future__ import annotations

import pytest

from tests.support import runs
from tests.support.runs import committed, expanded, failed, graph, started
from workflow.model import fold
from workflow.model import records as r
from workflow.model.graph import Graph, StepOptions
from workflow.model.state import RunState, StepState, below
from workflow.model.status import StepPhase as P

NOT_STORED, CATCH = StepOptions(checkpoint=False), StepOptions(catch_exceptions=True)


def sets_of(state: RunState) -> dict[str, list[str]]:
    """Return the ids in the sets of a state that are not empty."""
    names = ("ready", "waits", "running", "sleeping")
    return {name: list(getattr(state, name)) for name in names if getattr(state, name)}


def test_new_step_has_no_attempt_and_no_outcome() -> None:
    step = StepState(graph("a").steps[0], None)
    empty = {
        "phase": P.WAITING, "pending_parents": 0, "dependants": [], "members": (), "scope": None, "resolves": None,
        "catcher": None, "is_run_output": False, "outcome": None, "error": None, "error_value": None, "text": "",
        "is_waited_for": False, "attempt": 0, "failed_attempts": 0, "epoch": 0, "started": 0.0, "ended": 0.0,
        "due": 0.0,
    }  # fmt: skip
    assert {name: getattr(step, name) for name in empty} == empty


def test_new_run_has_no_history() -> None:
    state = RunState(runs.created(graph("a")), 1, runs.OWNER)
    assert (state.seq, state.epoch_started, state.released, state.epochs_without_progress) == (0, 0.0, False, 0)
    assert (state.running_tasks, state.suspect_steps, state.terminal, state.output) == (0, (), None, None)
    assert state.phases == dict.fromkeys(P, 0)
    assert (state.is_finished, state.only_waiting, state.succeeded, state.failed) == (False, False, 0, 0)
    assert state.active_steps() == []


def test_each_step_is_in_the_set_of_its_phase() -> None:
    sleepers = tuple(runs.sleeper(name, 7.0) for name in ("s", "t"))
    state = runs.state_of(Graph((*graph("a b c d:a").steps, *sleepers), "d"))
    assert sets_of(state) == {"ready": ["a", "b", "c"], "waits": ["s", "t"]}
    apply = fold.apply
    apply(state, 1, started("a"))
    apply(state, 1, started("b"))
    apply(state, 1, started("a", attempt=2))
    apply(state, 1, r.TimerSet("s", 1, 2.0, 9.0))
    assert sets_of(state) == {"ready": ["c"], "waits": ["t"], "running": ["a", "b"], "sleeping": ["s"]}
    assert (state.running_tasks, state.only_waiting) == (2, False)
    assert [step.spec.step_id for step in state.active_steps()] == ["a", "b", "c", "t", "s"]
    apply(state, 2, committed("a"))
    apply(state, 2, committed("s"))
    apply(state, 2, failed("b"))
    assert sets_of(state) == {"ready": ["c", "d"], "waits": ["t"]}
    assert (state.running_tasks, state.succeeded, state.failed) == (0, 2, 1)
    assert {phase: count for phase, count in state.phases.items() if count} == {P.COMMITTED: 2, P.FAILED: 1, P.READY: 3}


@pytest.mark.parametrize(
    ("steps", "records", "waiting"),
    [
        ("s", [], True),
        ("s", [r.TimerSet("s", 1, 2.0, 9.0)], True),
        ("a s", [started("a")], False),
        ("a s", [], False),
        ("a s", [committed("a")], True),
    ],
    ids=["may sleep", "sleeps", "a step runs", "a step is ready", "only the sleep is left"],
)
def test_run_only_waits_if_no_step_needs_a_worker(steps: str, records: list[r.Record], waiting: bool) -> None:
    specs = tuple(runs.sleeper("s", 7.0) if name == "s" else graph(name).steps[0] for name in steps.split())
    assert runs.state_of(Graph(specs, "s"), records).only_waiting is waiting


def test_value_is_stored_unless_step_or_its_scope_forbids_it() -> None:
    state = runs.state_of(
        graph("x y:x", x=NOT_STORED),
        [expanded("x", graph("x/a x/b:x/a", x__a=StepOptions(checkpoint=True)))],
        [committed("x/a")],
        [expanded("x/b", graph("z"))],
    )
    found = {name: (step.checkpoint, step.checkpointed) for name, step in state.steps.items()}
    assert found == {
        "x": (False, False), "y": (True, True), "x/a": (True, True), "x/b": (False, False), "z": (False, False),
    }  # fmt: skip
    output = runs.state_of(graph("x", x=NOT_STORED)).steps["x"]
    assert (output.checkpoint, output.checkpointed, output.is_run_output) == (False, True, True)


def test_nearest_dynamic_step_that_catches_is_the_catcher() -> None:
    state = runs.state_of(
        graph("x", x=CATCH),
        [expanded("x", graph("y", y=CATCH))],
        [expanded("y", graph("z"))],
        [expanded("z", graph("a"))],
    )
    catchers = {name: step.catcher and step.catcher.spec.step_id for name, step in state.steps.items()}
    assert catchers == {"x": None, "y": "x", "z": "y", "a": "y"}
    assert sorted(step.spec.step_id for step in below(state.steps["x"])) == ["a", "y", "z"]
    assert [step.spec.step_id for step in below(state.steps["z"])] == ["a"]
    assert list(below(state.steps["a"])) == []
