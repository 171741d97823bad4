"""Mutation tests: which tests a mutant gets, what the list of equivalent mutants accepts, and the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from dev import paths
from dev.mutants import equivalents, report
from dev.mutants.mutant import Key, Mutant, Verdict
from dev.mutants.selection import Baseline, choose_tests, shuffled

MODULE = "workflow/log/keys.py"
KEY = Key(MODULE, "escape", "- if a < b:\n+ if a <= b:")
ENTRY = {"module": KEY.module, "function": KEY.function, "diff": KEY.diff + "\n", "reason": "a never equals b"}
SECONDS = {
    "u/test_keys.py::slow": 3.0,
    "u/test_keys.py::fast": 1.0,
    "u/test_other.py::a": 0.5,
    "u/test_other.py::b": 0.25,
}


def mutant(first: int, last: int) -> Mutant:
    return Mutant(KEY, range(first, last + 1), range(10, 20), "")


def baseline(lines: Mapping[int, set[str]]) -> Baseline:
    return Baseline({MODULE: {line: frozenset(tests) for line, tests in lines.items()}}, SECONDS)


def test_tests_named_after_the_module_run_first_then_fast_ones() -> None:
    measured = baseline({12: set(SECONDS)})
    assert choose_tests(mutant(12, 12), measured) == (
        "u/test_keys.py::fast", "u/test_keys.py::slow", "u/test_other.py::b", "u/test_other.py::a",
    )  # fmt: skip


def test_tests_named_after_the_module_always_run() -> None:
    """Those that execute the line come first."""
    measured = baseline({12: {"u/test_other.py::a"}})
    assert choose_tests(mutant(12, 12), measured) == (
        "u/test_other.py::a", "u/test_keys.py::fast", "u/test_keys.py::slow",
    )  # fmt: skip


@pytest.mark.parametrize(("limit", "expected"), [(0.0, 1), (1.0, 1), (4.0, 2), (4.25, 3), (9.0, 4)])
def test_tests_of_a_mutant_are_limited_by_their_duration(limit: float, expected: int) -> None:
    assert len(choose_tests(mutant(12, 12), baseline({12: set(SECONDS)}), limit)) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ({12: {"a"}, 13: {"b"}, 14: {"c"}}, ("a", "b")),
        ({12: set(), 19: {"b"}, 20: {"c"}}, ("b",)),
        ({12: set(), 3: {"a"}, 40: {"c"}}, ("a", "c", "z")),
        ({}, ("z",)),
    ],
    ids=["of the statement", "of the function", "of the module", "all"],
)
def test_mutant_gets_the_tests_of_its_lines(lines: dict[int, set[str]], expected: tuple[str, ...]) -> None:
    measured = Baseline(baseline(lines).tests, {test: 1.0 for tests in lines.values() for test in tests} | {"z": 0.0})
    assert choose_tests(mutant(12, 13), measured) == expected


def test_order_of_the_mutants_depends_on_the_seed_alone() -> None:
    numbers = list(range(50))
    assert shuffled(numbers, 1) == shuffled(numbers, 1) != shuffled(numbers, 2)
    assert sorted(shuffled(numbers, 1)) == numbers


def test_entry_of_a_mutant_names_it_again() -> None:
    printed = equivalents.entry(KEY) + "a never equals b"
    assert equivalents.read(printed) == equivalents.parse([ENTRY]) == {KEY: "a never equals b"}


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        ([{**ENTRY, "reason": None}], "needs text for exactly"),
        ([{key: ENTRY[key] for key in ENTRY if key != "function"}], "needs text for exactly"),
        ([{**ENTRY, "line": 7}], "needs text for exactly"),
        ([ENTRY, ENTRY], "is listed twice"),
    ],
    ids=["no reason", "no function", "unknown field", "duplicate"],
)
def test_invalid_entry_of_the_list_is_reported(entries: list[dict[str, Any]], fault: str) -> None:
    with pytest.raises(equivalents.InvalidListError, match=fault):
        equivalents.parse(entries)


def test_outdated_entries_are_those_of_the_modules_in_scope() -> None:
    other = Key("workflow/log/owned.py", "add", "- a\n+ b")
    changed = KEY._replace(diff="- x\n+ y")
    reasons = {KEY: "", changed: "", other: ""}
    assert equivalents.outdated(reasons, {KEY}, {MODULE}) == [changed]


def test_listed_mutants_change_code_that_exists() -> None:
    for key in equivalents.load():
        code = {line.strip() for line in (paths.ROOT / key.module).read_text().splitlines()}
        removed = {line[2:] for line in key.diff.splitlines() if line.startswith("- ")}
        assert removed <= code, f"{key.module}: {removed - code} is no longer there; remove the entry from the list"


def test_table_counts_the_verdicts_of_each_module() -> None:
    keys = [KEY._replace(diff=str(number)) for number in range(3)] + [Key("b.py", "f", "")]
    verdicts = {keys[0]: Verdict.NOTICED, keys[1]: Verdict.SURVIVED, keys[3]: Verdict.NOTICED}
    table = report.table(verdicts, keys, {"b.py": 1.0, MODULE: 2.2})
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["b.py", "1", "1", "1", "0", "0", "0", "0", "0", "1"],
        [MODULE, "2", "3", "1", "0", "0", "1", "0", "0", "2"],
        ["all", "3", "4", "2", "0", "0", "1", "0", "0", "3"],
    ]
