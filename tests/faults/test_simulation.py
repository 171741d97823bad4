"""Seeds of the simulation: whatever is done to managers, workers and the store, the runs end as the oracle says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.support.simulation.seeds import COLLECTED_FROM, KINDS, PASSING_FROM, WHOLE_FROM, simulate

NAMED_SEEDS = {
    20: "nobody says goodbye for a run that was deleted",
    32: "a run given up in the segment of its claim is forgotten",
    280: "a run that FAILED here and was resumed elsewhere is not told to have failed",
    302: "a run's key that could not be removed is removed later",
    338: "a run's key is removed however long the store is away at the run's end",
    478: "a run that was deleted while it went on is forgotten",
    545: "a key that was written although no answer came is found again",
    651: "who reads a run while it is deleted learns that, and not that it is damaged",
    1075: "a run that is claimed again while its end is put right keeps its key",
    1385: "a run that is asked for once more behind its end leaves no key",
    1862: "who waits for a deleted run learns that it was deleted",
    2157: "who waits for a deleted run learns that it was deleted, once more",
    2768: "no bell is left of a request whose key was removed by a manager that then died",
    1_000_309: "a run that is deleted while its last owner lets go of it is let go of",
    1_002_198: "a run that ended in an earlier incarnation's hands leaves nothing of what was asked of it",
    1_001_905: "an entry that somebody dead took from the index late comes back with a collection",
    2_000_234: "a claimant that comes late leaves the run in the index",
    3_000_208: "a start that is repeated behind a FAILED end executes nothing",
}
SEEDS = [first + number for first in KINDS for number in range(300 // len(KINDS))]
AT_LEAST = {
    "managers: kill": 200, "managers: stop": 200, "managers: zombie": 200, "managers: cut": 200, "managers: leave": 150,
    "workers died": 300, "workers died coming up": 100, "calls lost": 1_000, "answers lost": 1_000, "fences met": 30,
    "resumes of a FAILED run": 10, "ended CANCELED (Asked)": 10, "ended CANCELED (Deleted)": 3,
    "ended CANCELED (Outside)": 1, "collections": 1_000, "collected: runs": 5, "collected: abandoned": 5,
    "values lost": 20, "StepReturnedEphemeral": 100, "StepEphemeralLost": 20, "outside: died over it": 1, "drivers died": 20,
}  # fmt: skip
"""What must happen to all of the seeds together, at the least: what does not happen finds nothing."""

happened: dict[int, dict[str, int]] = {}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_ends_as_it_must_whatever_is_done_to_it(seed: int) -> None:
    report = simulate(seed)
    happened[seed] = report.counts
    assert not report.problems, report.told()


def test_everything_is_done_to_the_runs() -> None:
    counts: Counter[str] = Counter()
    for seed in SEEDS:
        counts.update(happened[seed] if seed in happened else simulate(seed).counts)
    assert {what: counts[what] for what, least in AT_LEAST.items() if counts[what] < least} == {}


@pytest.mark.parametrize("seed", NAMED_SEEDS, ids=[f"{seed}: {what}" for seed, what in NAMED_SEEDS.items()])
def test_a_seed_that_found_a_bug_finds_it_no_more(seed: int) -> None:
    report = simulate(seed)
    assert not report.problems, report.told()


@pytest.mark.parametrize("seed", [31, 122, WHOLE_FROM + 57, WHOLE_FROM + 99, COLLECTED_FROM + 16, PASSING_FROM + 1])
def test_one_seed_is_one_trace_in_every_process(seed: int) -> None:
    here = simulate(seed).trace
    command = [sys.executable, "-m", "tests.support.simulation.seeds", str(seed)]
    for hashes in ("1", "2"):
        told = subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": hashes}, capture_output=True, text=True, check=True
        )
        assert told.stdout.startswith(here)
