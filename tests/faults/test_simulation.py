"""Seeds of the simulation: every run finishes with the result of the oracle, whatever faults occur."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.support.simulation.scenario import (
    COLLECTOR_FROM,
    EPHEMERAL_FROM,
    EXTENDED_FROM,
    SERIES,
    WAITS_FROM,
    simulate,
)

NAMED_SEEDS = {
    20: "a manager does not release a deleted run",
    32: "a manager forgets a run that it gave up in the segment of its claim",
    280: "a run that FAILED here and was resumed elsewhere is not reported as FAILED",
    302: "a key of a run that could not be removed is removed later",
    338: "the key of a finished run is removed after any outage of the store",
    478: "a manager forgets a run that was deleted while it was running",
    545: "a key is found again if the reply to its write was lost",
    651: "a reader of a run during its deletion learns that it was deleted, not that it is damaged",
    1075: "a run that is claimed again while its terminal state is recovered keeps its key",
    1385: "a claim of a finished run leaves no key",
    1862: "a client that waits for a deleted run learns that it was deleted",
    2157: "a client that waits for a deleted run learns that it was deleted (second case)",
    2768: "no notification is left of a request whose key was removed by a manager that then died",
    1_000_309: "a run that is deleted while its last owner releases it is released",
    1_002_198: "requests to a run that a previous incarnation finished are removed",
    1_001_905: "an index entry that a dead process removed late is restored by a collection",
    2_000_234: "a late claimant leaves the run in the index",
    3_000_208: "a repeated start of a FAILED run executes nothing",
}
"""Seeds that found a bug -> the rule that the bug broke."""

SEEDS = [first + number for first in SERIES for number in range(30 if first == WAITS_FROM else 60)]
MINIMUM_COUNTS = {
    "managers: kill": 200, "managers: stop": 200, "managers: zombie": 200, "managers: disconnect": 200,
    "managers: leave": 150, "workers died": 300, "workers died during startup": 100, "drivers died": 20,
    "calls lost": 1_000, "replies lost": 1_000, "fenced writes": 30, "resumes of a FAILED run": 10,
    "finished CANCELED (Asked)": 10, "finished CANCELED (Deleted)": 3, "finished CANCELED (Outside)": 1,
    "outside: died during a request": 1, "collections": 1_000, "collected: runs": 5, "collected: abandoned": 5,
    "ephemeral values lost": 20, "StepReturnedEphemeral": 100, "StepEphemeralLost": 20,
    "WaitDecided": 30,
}  # fmt: skip
"""Event -> how often it must happen in all seeds together. The seeds test only faults that do happen."""

TRACED_SEEDS = (31, 122, EXTENDED_FROM + 57, EXTENDED_FROM + 99, COLLECTOR_FROM + 16, EPHEMERAL_FROM + 1)

observed: dict[int, dict[str, int]] = {}


@pytest.mark.parametrize("seed", SEEDS)
def test_runs_survive_all_faults_of_a_seed(seed: int) -> None:
    report = simulate(seed)
    observed[seed] = report.counts
    assert not report.problems, report.describe()


def test_all_kinds_of_faults_happen_often_enough() -> None:
    counts: Counter[str] = Counter()
    for seed in SEEDS:
        counts.update(observed[seed] if seed in observed else simulate(seed).counts)
    assert {event: counts[event] for event, least in MINIMUM_COUNTS.items() if counts[event] < least} == {}


@pytest.mark.parametrize("seed", NAMED_SEEDS, ids=[f"{seed}: {rule}" for seed, rule in NAMED_SEEDS.items()])
def test_seed_that_found_a_bug_passes(seed: int) -> None:
    report = simulate(seed)
    assert not report.problems, report.describe()


@pytest.mark.parametrize("seed", TRACED_SEEDS)
def test_seed_has_the_same_trace_in_every_process(seed: int) -> None:
    expected = simulate(seed).trace
    command = [sys.executable, "-m", "tests.support.simulation.scenario", str(seed)]
    for hash_seed in ("1", "2"):
        process = subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True
        )
        assert process.stdout.startswith(expected)
