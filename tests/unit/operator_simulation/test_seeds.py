"""Seeds of the simulation of the operator: whatever faults occur, no run is lost and no healthy cluster is deleted."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.operator_simulation.faults import FAULTS, KNOWN
from tests.support.operator_simulation.scenario import simulate

SEEDS = range(100)
SEED_OF_KNOWN = {
    "quota": 0,
    "dashboard hung": 11,
    "dashboard unauthorized": 11,
    "token missing": 11,
    "bad input at a resume": 1,
    "cancel while the store is down": 9,
    "namespace deleted": 0,
}
"""Known fault -> a seed in which it breaks an invariant, if it is the only fault."""

TRACED_SEED = 11


@pytest.mark.parametrize("block", range(0, len(SEEDS), 10))
def test_no_invariant_is_broken(block: int) -> None:
    for seed in SEEDS[block : block + 10]:
        report = simulate(seed)
        assert not report.problems, report.describe()


@pytest.mark.parametrize("fault", [fault for fault in KNOWN if fault in SEED_OF_KNOWN])
def test_known_fault_still_breaks_an_invariant(fault: str) -> None:
    assert fault in FAULTS
    problems = simulate(SEED_OF_KNOWN[fault], [fault], ()).problems
    assert problems, f"the operator tolerates {fault!r} now: remove it from KNOWN in faults.py"


def test_seed_has_the_same_trace_in_every_process() -> None:
    expected = simulate(TRACED_SEED).describe()
    command = [sys.executable, "-m", "tests.support.operator_simulation.scenario", str(TRACED_SEED)]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert process.stdout.startswith(expected)
