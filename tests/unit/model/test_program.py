"""Only surely the same program replaces the functions of a run; equal code needs no choice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.model.program import Choice, Code, Program, choose, is_same_program

HERE = Program("host-1", "process-1", "")
NAMED = Program("host-1", "process-1", "shop")
OTHER_PROCESS = Program("host-1", "process-2", "")
OTHER_HOST = Program("host-2", "process-1", "")
NAMED_ELSEWHERE = Program("host-2", "process-2", "shop")
UNKNOWN = Program()


@pytest.mark.parametrize(
    ("creator", "here", "stored_source", "present_source", "is_same"),
    [
        pytest.param(HERE, HERE, "", "", True, id="same process"),
        pytest.param(HERE, HERE, "/a.py", "/b.py", True, id="same process, moved function"),
        pytest.param(HERE, OTHER_PROCESS, "/a.py", "/a.py", True, id="same file on the same machine"),
        pytest.param(HERE, OTHER_PROCESS, "/a.py", "/b.py", False, id="other file on the same machine"),
        pytest.param(HERE, OTHER_PROCESS, "", "", False, id="two shells on the same machine"),
        pytest.param(HERE, OTHER_HOST, "/a.py", "/a.py", False, id="same path on another machine"),
        pytest.param(HERE, OTHER_HOST, "", "", False, id="same process id on another machine"),
        pytest.param(NAMED, NAMED_ELSEWHERE, "/a.py", "/b.py", True, id="same name on another machine"),
        pytest.param(NAMED, HERE, "/a.py", "/a.py", False, id="name, and none here"),
        pytest.param(HERE, NAMED, "/a.py", "/a.py", False, id="no name, and one here"),
        pytest.param(NAMED, Program("host-1", "process-1", "store"), "/a.py", "/a.py", False, id="another name"),
        pytest.param(UNKNOWN, HERE, "/a.py", "/a.py", False, id="run of an earlier version"),
        pytest.param(UNKNOWN, UNKNOWN, "/a.py", "/a.py", False, id="two programs without a description"),
    ],
)
def test_which_program_is_the_same(
    creator: Program, here: Program, stored_source: str, present_source: str, is_same: bool
) -> None:
    assert is_same_program(creator, here, stored_source, present_source) is is_same


@pytest.mark.parametrize(
    ("stored", "present", "same_program", "choice"),
    [
        (Code("d1", "/a.py", "3.11"), Code("d1", "/b.py", "3.11"), False, Choice.SAME),
        (Code("d1", "/a.py", "3.11"), Code("d1", "/b.py", "3.11"), True, Choice.SAME),
        (Code("d1", "/a.py", "3.11"), Code("d2", "/a.py", "3.11"), True, Choice.PRESENT),
        (Code("d1", "/a.py", "3.11"), Code("d2", "/a.py", "3.11"), False, Choice.STORED),
        (Code("d1", "/a.py", "3.10"), Code("d1", "/a.py", "3.11"), True, Choice.PRESENT),
        (Code("d1", "/a.py", "3.10"), Code("d1", "/a.py", "3.11"), False, Choice.STORED),
    ],
    ids=[
        "same code", "same code and program", "changed code", "code of another program", "other Python",
        "other Python and program",
    ],
)  # fmt: skip
def test_which_code_is_chosen(stored: Code, present: Code, same_program: bool, choice: Choice) -> None:
    assert choose(stored, present, same_program=same_program) is choice


words = st.sampled_from(["", "a", "b"])
programs = st.builds(Program, words, words, words)


@given(programs, programs, words, words)
def test_two_programs_are_the_same_in_both_directions(first: Program, second: Program, source: str, other: str) -> None:
    assert is_same_program(first, second, source, other) == is_same_program(second, first, other, source)


@given(programs, programs, words, words)
def test_program_with_a_name_is_never_that_of_another_name(
    first: Program, second: Program, source: str, other: str
) -> None:
    if first.name != second.name:
        assert not is_same_program(first, second, source, other)
