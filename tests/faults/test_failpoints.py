"""A manager's process is killed at every pass of every named point, and in the middle of every kind of write.

The next life finishes its run: the oracle's value, no committed step executed again, every promise kept in the store.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.lives import ENDED, KILLED, At, BehindOutcomes, Story
from tests.faults.shapes import SHAPES
from workflow.log import failpoints
from workflow.log.failpoints import (
    AFTER_COMMIT,
    BEFORE_BLOB,
    BEFORE_CLAIM,
    BEFORE_COMMIT,
    BEFORE_REGISTER,
    BEFORE_SNAPSHOT,
)

OF_CLAIMS = {failpoints.BEFORE_CLAIM, failpoints.AFTER_CLAIM}
OF_NAMES = {failpoints.BEFORE_REGISTER, failpoints.AFTER_REGISTER}
PLACES = {
    **{point: At(point) for point in failpoints.ALL},
    "torn blob": At(BEFORE_BLOB, torn=True),
    "torn segment": At(BEFORE_COMMIT, torn=True),
    "torn claim": At(BEFORE_CLAIM, torn=True),
    "torn name": At(BEFORE_REGISTER, torn=True),
    "torn snapshot": At(BEFORE_SNAPSHOT, torn=True),
}


def nth(place: At, number: int) -> At:
    return At(place.point, number, torn=place.torn)


@pytest.mark.parametrize("place", [name for name in PLACES if PLACES[name].point not in OF_CLAIMS])
def test_a_first_life_killed_at_each_pass(tmp_path: Path, place: str) -> None:
    number = 1
    while _killed_at_pass(Story(tmp_path / str(number), "mixed"), nth(PLACES[place], number)):
        number += 1
    assert number > 1, "this place is never passed"


@pytest.mark.parametrize("place", [name for name in PLACES if PLACES[name].point not in OF_NAMES])
def test_a_second_life_killed_at_each_pass(tmp_path: Path, place: str) -> None:
    number = 1
    while True:
        story = Story(tmp_path / str(number), "mixed")
        assert story.live(At(AFTER_COMMIT, 3)) == KILLED
        if not _killed_at_pass(story, nth(PLACES[place], number)):
            break
        number += 1
    assert number > 1, "this place is never passed"


def _killed_at_pass(story: Story, place: At) -> bool:
    """Whether the life came to that pass; the next one ends the run."""
    code = story.live(place)
    story.history()
    story.finish()
    assert code in (KILLED, ENDED)
    return code == KILLED


@pytest.mark.parametrize("shape", ["mixed", "passing"])
@pytest.mark.parametrize("seed", range(8))
def test_many_lives_killed_at_random(tmp_path: Path, seed: int, shape: str) -> None:
    chance = random.Random(seed)
    story = Story(tmp_path, shape)
    for _ in range(chance.randint(4, 12)):
        story.live(nth(chance.choice(list(PLACES.values())), chance.randint(1, 4)))
        story.history()
    story.finish()


@pytest.mark.parametrize("shape", ["chain", "mixed"])
def test_all_memory_is_lost_behind_every_outcome(tmp_path: Path, shape: str) -> None:
    """Each life gets exactly one execution stored: a value, an expansion, or a failure that is caught."""
    story = Story(tmp_path, shape)
    done = 0
    while story.live(BehindOutcomes(1), one=True) == KILLED:
        history = story.history()
        assert history is not None
        assert len(history.executed) == done + 1
        done += 1
    history = story.finish()
    assert len(history.executed) == done
    assert len(set(story.begun())) == story.lives - 2, "each life but the last two executed one step"
    assert set(history.claims) == set(range(1, done + 1)), "the end is behind the last outcome"


@pytest.mark.parametrize(
    "place", ["before_blob", "torn blob", "after_blob", "before_commit", "torn segment", "after_commit"]
)
def test_around_an_expansion_all_children_exist_or_none(tmp_path: Path, place: str) -> None:
    """500 children, so that their DAG is a blob; the same ids, whichever life made them."""
    shape = SHAPES["map of 500"]
    top, every = {spec.step_id for spec in shape.dag.steps}, shape.steps
    seen = set()
    for number in range(1, 6):
        story = Story(tmp_path / str(number), "map of 500")
        code = story.live(nth(PLACES[place], number))
        history = story.history()
        if history is not None:
            assert set(history.steps) in (top, every)
            seen.add(len(history.steps))
        assert set(story.finish().steps) == every
        if code == ENDED:
            break
    assert seen >= ({len(top)} if place.endswith("blob") else {len(top), len(every)})


def test_a_map_of_a_thousand_killed_at_10_50_and_99_percent(tmp_path: Path) -> None:
    story = Story(tmp_path, "map of 1000")
    done: list[str] = []
    for percent in (10, 50, 99):
        assert story.live(BehindOutcomes(percent * 10 - len(done))) == KILLED
        history = story.history()
        assert history is not None
        assert percent * 10 <= len(history.executed) < percent * 10 + 25
        assert history.executed[: len(done)] == done
        done = history.executed
    history = story.finish()
    assert history.executed[: len(done)] == done
    again = {step_id for epoch, step_id in story.begun() if epoch == 4}
    assert again.isdisjoint(done), "a committed step was executed again"
    assert len(again) == 1_004 - len(done)
