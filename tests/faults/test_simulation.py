"""Seeds of the simulation: whatever is done to managers, workers and the store, the runs end as the oracle says."""

from __future__ import annotations

import pytest

from tests.support.simulation.seeds import simulate

NAMED_SEEDS = {
    1862: "who waits for a deleted run learns that it was deleted",
    2157: "who waits for a deleted run learns that it was deleted, once more",
}


@pytest.mark.parametrize("seed", NAMED_SEEDS, ids=[f"{seed}: {what}" for seed, what in NAMED_SEEDS.items()])
def test_a_seed_that_found_a_bug_finds_it_no_more(seed: int) -> None:
    report = simulate(seed)
    assert not report.problems, report.told()


@pytest.mark.parametrize("seed", range(5))
def test_one_seed_is_one_trace(seed: int) -> None:
    assert simulate(seed).trace == simulate(seed).trace
