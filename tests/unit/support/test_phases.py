"""The counts of the checker's own fold and those of the library agree on arbitrary runs."""

from __future__ import annotations

import json

from hypothesis import given, settings

from tests.support.phases import Phases
from tests.support.simulated import SimulatedRun, simulated_runs
from workflow.model import codec, fold
from workflow.model.totals import totals_of


@settings(max_examples=300, deadline=None)
@given(run=simulated_runs())
def test_both_folds_count_the_same_phases_after_each_segment(run: SimulatedRun) -> None:
    state, phases = run.fresh(), Phases()
    phases.insert(codec.encode_graph(run.dag), "")
    assert dict(totals_of(state).steps) == phases.totals()
    for seq, records in enumerate(run.segments, 1):
        for record in records:
            fold.apply(state, seq, record)
            stored = json.loads(json.dumps(codec.encode(record)))
            phases.fold(stored, stored.get("graph"))
        assert dict(totals_of(state).steps) == phases.totals()
        counted = dict.fromkeys(state.phases, 0)
        for step in state.steps.values():
            counted[step.phase] += 1
        assert state.phases == counted
