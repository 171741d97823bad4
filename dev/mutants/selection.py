"""Chooses mutants, and the tests of each mutant: pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final, TypeVar

from dev.mutants.mutant import Mutant

T = TypeVar("T")
SECONDS_PER_MUTANT: Final = 15.0
"""The tests of one mutant are limited to those that together used this much CPU time without a mutant."""


@dataclass(frozen=True)
class Baseline:
    """What a run of the tests without a mutant showed.

    Attributes:
        tests: module, line, and the tests that executed the line.
        seconds: the CPU time of each test.
        early: module, and the lines that were executed before the first test, when modules were imported and tests
            were collected.
    """

    tests: Mapping[str, Mapping[int, frozenset[str]]]
    seconds: Mapping[str, float]
    early: Mapping[str, frozenset[int]] = field(default_factory=dict)

    def is_early(self, mutant: Mutant) -> bool:
        """Return whether the changed statement was executed before the first test."""
        return not self.early.get(mutant.key.module, frozenset()).isdisjoint(mutant.lines)


def choose_tests(mutant: Mutant, baseline: Baseline, limit: float = SECONDS_PER_MUTANT) -> tuple[str, ...]:
    """Return the tests that can notice a mutant: those named after its module first, then the fast ones.

    A line that is executed when its module is imported has no tests of its own. Then the tests of the function around
    it count, or else all tests, those of the module first. Tests named after the module are always chosen, because they
    may execute it while they are collected.

    Args:
        mutant: the changed module, with the lines of its change.
        baseline: the tests of each line, with their CPU times.
        limit: the largest sum of their CPU times, in seconds. At least one test is returned if there is any.
    """
    of_line = baseline.tests.get(mutant.key.module, {})
    own = {test for test in baseline.seconds if _is_own(test, mutant)}
    of_module = frozenset[str]().union(*of_line.values())
    covering = of_module
    for lines in (mutant.lines, mutant.function):
        if found := frozenset[str]().union(*(of_line.get(line, frozenset()) for line in lines)):
            covering = found
            break
    chosen = own | covering if covering is not of_module else own | set(baseline.seconds)

    def rank(test: str) -> tuple[bool, bool, float, str]:
        return test not in covering, test not in own, baseline.seconds.get(test, 0.0), test

    return _within(limit, sorted(chosen, key=rank), baseline)


def _is_own(test: str, mutant: Mutant) -> bool:
    return f"/test_{PurePath(mutant.key.module).stem}.py::" in test


def _within(limit: float, tests: Sequence[str], baseline: Baseline) -> tuple[str, ...]:
    chosen: list[str] = []
    total = 0.0
    for test in tests:
        total += baseline.seconds.get(test, 0.0)
        if chosen and total > limit:
            break
        chosen.append(test)
    return tuple(chosen)


def shuffled(items: Sequence[T], seed: int) -> list[T]:
    """Return all items in an order that depends on the seed alone, so each beginning of it is a sample."""
    return random.Random(seed).sample(items, len(items))
