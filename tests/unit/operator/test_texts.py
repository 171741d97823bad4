"""Bounded texts: whole words, the cause of a traceback first, and then the end of the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_operator.core.texts import cause_first, clip, listed, plain

TRACEBACK = """Traceback (most recent call last):
  File "/app/trip.py", line 9, in book
    raise ValueError("no such city: Atlantis")
ValueError: no such city: Atlantis"""
LOG = f"""Job entrypoint command failed with exit code 1, last available logs (truncated to 20,000 chars):
2026-11-27 10:00:00,123 INFO worker.py:1843 -- Connecting to the cluster
{TRACEBACK}"""
OF_RAY = """Traceback (most recent call last):
  File "/app/driver.py", line 3, in <module>
    ray.get(ref)
ray.exceptions.RayTaskError(KeyError): ray::book() (pid=9, ip=198.18.0.5)
  File "/app/trip.py", line 9, in book
    return seats["A1"]
KeyError: 'A1'"""
CHAINED = f"""{TRACEBACK}

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/trip.py", line 12, in <module>
    raise SystemError
SystemError"""

CAUSES = {
    "traceback": (TRACEBACK, "ValueError: no such city: Atlantis"),
    "log of a driver": (LOG, "ValueError: no such city: Atlantis"),
    "lines after the traceback": (f"{LOG}\n2026-11-27 10:00:01 the job exits\n", "ValueError: no such city: Atlantis"),
    "error of a Ray task": (OF_RAY, "KeyError: 'A1'"),
    "chained": (CHAINED, "SystemError"),
    "error without traceback": ("the job failed:\nworkflow.errors.InvalidInputError: no module trip", "workflow.err"),
}


@pytest.mark.parametrize(("text", "cause"), CAUSES.values(), ids=CAUSES.keys())
def test_cause_is_the_first_line(text: str, cause: str) -> None:
    changed = cause_first(text)
    assert changed.startswith(cause)
    assert changed.endswith(text)
    assert cause_first(changed) == changed


@pytest.mark.parametrize("text", ["", "one line", "ValueError: no seat", "two\nlines: without an error"])
def test_text_without_a_hidden_cause_is_not_changed(text: str) -> None:
    assert cause_first(text) == text


def test_long_traceback_keeps_its_cause_and_its_end() -> None:
    frames = "\n".join(f'  File "/app/part_{number}.py", line {number}, in call' for number in range(100))
    text = f"Traceback (most recent call last):\n{frames}\nValueError: no such city\nthe job exited"
    clipped = clip(text, 300)
    first, dots, *rest = clipped.split("\n")
    assert (first, dots, rest[-1]) == ("ValueError: no such city", "...", "the job exited")
    assert all(line in text.split("\n") for line in rest)


def test_prose_keeps_whole_words_at_both_ends() -> None:
    words = [f"word{number}" for number in range(500)]
    clipped = clip(" ".join(words), 200)
    beginning, _, end = clipped.partition(" ... ")
    assert {*beginning.split(), *end.split()} <= set(words)
    assert clipped.startswith("word0 word1 ")
    assert clipped.endswith(" word499")


@given(st.lists(st.text("ab:", min_size=1, max_size=20), min_size=1), st.sampled_from(" \n"), st.integers(100, 240))
def test_clipped_text_has_only_whole_words(words: list[str], separator: str, limit: int) -> None:
    text = separator.join(words)
    clipped = clip(text, limit)
    assert len(clipped) <= limit
    assert set(clipped.split()) <= {*words, "..."}
    assert clipped == text or "..." in clipped


@given(st.text(max_size=400), st.integers(40, 120))
def test_no_text_exceeds_its_limit(text: str, limit: int) -> None:
    assert len(clip(text, limit)) <= limit
    assert len(clip(clip(text, limit), limit)) <= limit


def test_colors_of_a_terminal_are_removed() -> None:
    assert plain("\x1b[36m(pid=7)\x1b[0m booked\r\n\tdone\x00") == "(pid=7) booked\n\tdone"


def test_long_list_of_names_is_counted() -> None:
    assert listed(("a", "b", "c"), 3) == "a, b, c"
    assert listed(("a", "b", "c"), 1) == "a and 2 more"
