"""What steps print and log appears in the driver whose manager owns the run, if several drivers share a cluster."""

from __future__ import annotations

from pathlib import Path

from tests.support.drivers import Tree, driver
from tests.support.marks import Marks

SHOWN_BY_FIRST_AND_SECOND = {
    "printed first": (1, 0),
    "logged first": (1, 0),
    "printed second": (0, 1),
    "logged second": (0, 1),
    "printed held begins": (1, 0),
    "printed held ends": (1, 0),
    "printed flaky": (1, 1),
}


def test_each_driver_shows_the_output_of_its_own_runs(
    ray_outside: tuple[Tree, str], marks: Marks, folder: Path
) -> None:
    """The second driver resumes one run that failed in the first, and attaches to another one that is running there."""
    arguments, address = (str(folder), marks.folder), ray_outside[1]
    with (
        driver("printing.py", *arguments, "first", address=address) as first,
        driver("printing.py", *arguments, "second", address=address) as second,
    ):
        marks.wait_started("held")
        marks.open("second")
        second.printed("flaky resumed")
        marks.open("held")
        for each in (first, second):
            each.printed("held returned")
        first.printed("printed held ends")
        second.printed("logged second")
        marks.open("end")
        assert [each.ended() for each in (first, second)] == [0, 0]
        shown = [each.output() for each in (first, second)]
    counts = {text: tuple(output.count(text) for output in shown) for text in SHOWN_BY_FIRST_AND_SECOND}
    assert counts == SHOWN_BY_FIRST_AND_SECOND
