"""A short storm: every kind of fault, while several Workflows run. `make soak` runs a long one."""

from __future__ import annotations

from tests.e2e.chaos.schedule import Kind
from tests.e2e.chaos.storm import Plan, run
from tests.e2e.namespace import WorkflowNamespace

PLAN = Plan(seed=5, workflows=5, waves=10, seconds=75.0, pause=7.5, frozen_seconds=45.0)


def test_storm_loses_repeats_and_harms_nothing(
    namespaces: dict[str, WorkflowNamespace], measurements: dict[str, str]
) -> None:
    report = run(namespaces["e2e-storm"], PLAN, print_line=print)
    assert not report.problems, str(report)
    missing = [kind for kind in Kind if not report.counts.get(f"fault: {kind}")]
    assert not missing, f"these faults had no target: {missing}"
    measurements["storm"] = ", ".join(f"{report.counts[name]} {name}" for name in ("Workflows", "resumes"))
