"""A short storm: one fault of each kind, while several Workflows run. `make soak` runs a long one."""

from __future__ import annotations

from tests.e2e.chaos.schedule import Kind
from tests.e2e.chaos.storm import Plan, run
from tests.e2e.namespace import WorkflowNamespace

PLAN = Plan(
    seed=5,
    workflows=4,
    waves=20,
    seconds=50,
    pause=5,
    frozen_seconds=45,
    shared_clusters=1,
    own_clusters=2,
    step_seconds=0.3,
)
LEAST_KINDS = 6
"""A fault has no target if, for example, no worker runs at its time."""


def test_storm_loses_repeats_and_harms_nothing(
    namespaces: dict[str, WorkflowNamespace], measurements: dict[str, str]
) -> None:
    report = run(namespaces["e2e-storm"], PLAN, print_line=print)
    assert not report.problems, str(report)
    kinds = [kind for kind in Kind if report.counts.get(f"fault: {kind}")]
    assert len(kinds) >= LEAST_KINDS, f"only these faults had a target: {kinds}"
    measurements["storm"] = ", ".join(f"{report.counts[name]} {name}" for name in ("Workflows", "resumes"))
