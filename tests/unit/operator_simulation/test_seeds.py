"""Seeds of the simulation of the operator: whatever faults occur, no run is lost and no healthy cluster is deleted."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.operator_simulation.scenario import simulate

SEEDS = range(20)
TRACED_SEED = 11


@pytest.mark.parametrize("block", range(0, len(SEEDS), 5))
def test_no_invariant_is_broken(block: int) -> None:
    for seed in SEEDS[block : block + 5]:
        report = simulate(seed)
        assert not report.problems, report.describe()


def test_seed_has_the_same_trace_in_every_process() -> None:
    expected = simulate(TRACED_SEED).describe()
    command = [sys.executable, "-m", "tests.support.operator_simulation.scenario", str(TRACED_SEED)]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert process.stdout.startswith(expected)
