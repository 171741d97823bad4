"""Value and step ids of the script pipeline.py, for the script and for the tests that run it."""

from __future__ import annotations

EXPECTED = 4 * sum(sum(range(n * 20_000)) for n in (1, 2, 3)) + 6 + 1

STEP_IDS = {
    "load1": "__main__.load", "load2": "__main__.load_1", "load3": "__main__.load_2",
    "share": "__main__.share",
    "spread": "__main__.spread",
    "work0": "__main__.spread/__main__.work", "work1": "__main__.spread/__main__.work_1",
    "work2": "__main__.spread/__main__.work_2", "work3": "__main__.spread/__main__.work_3",
    "join": "__main__.spread/__main__.join",
    "last": "__main__.last",
}  # fmt: skip
"""The step id of each step, by its name in the marks."""
