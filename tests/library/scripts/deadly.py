"""Steps whose values end the process that pickles or shows them, once each: deaths before and behind what is stored.

deadly.py STORE MARKS WORKFLOW_ID (worker | driver)
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import ray
from user import connect

import workflow
from tests.support.marks import Marks

LARGE = 200_000


def die_once(marks: Marks, where: str) -> None:
    """SIGKILL for this process, if it is the first that comes here."""
    try:
        os.close(os.open(Path(marks.folder) / f"died-{where}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


class DiesWhenPickled:
    """Whoever pickles it first dies of it."""

    def __init__(self, marks: Marks, where: str) -> None:
        self.marks = marks
        self.where = where

    def __reduce__(self) -> tuple[Any, ...]:
        die_once(self.marks, self.where)
        return DiesWhenPickled, (self.marks, self.where)


class DiesWhenShown:
    """Whoever makes a text of it first dies of it; that is done once it is stored."""

    def __init__(self, marks: Marks, total: int) -> None:
        self.marks = marks
        self.total = total
        self.filling = b"x" * LARGE

    def __str__(self) -> str:
        die_once(self.marks, "behind-a-blob")
        return f"total {self.total}"


@workflow.step(name="before")
def before_a_blob(marks: Marks) -> Any:
    marks.started("before")
    return [b"x" * LARGE, DiesWhenPickled(marks, "before-a-blob")]


@workflow.step(name="object")
def behind_an_object(marks: Marks) -> Any:
    marks.started("object")
    return [ray.put(b"x" * LARGE), DiesWhenPickled(marks, "behind-an-object")]


@workflow.step(name="spread")
def in_an_expansion(marks: Marks, *values: Any) -> Any:
    marks.started("spread")
    size = len(values[0][0]) + len(ray.get(values[1][0]))
    parts = [part.options(name=f"part{n}").step(marks, n) for n in range(3)]
    deadly = part.options(name="deadly").step(marks, size, DiesWhenPickled(marks, "in-an-expansion"))
    return total.step(marks, *parts, deadly)


@workflow.step
def part(marks: Marks, n: int, filling: Any = None) -> int:
    return n


@workflow.step(name="total")
def total(marks: Marks, *numbers: int) -> Any:
    return sum(numbers)


@workflow.step(name="last")
def last(marks: Marks, found: int, filling: Any = None) -> Any:
    marks.started("last")
    return DiesWhenShown(marks, found)


EXPECTED = 2 * LARGE + 3


def main(store: str, folder: str, workflow_id: str, whom: str) -> None:
    connect()
    workflow.init(store)
    marks = Marks(folder)
    spread = in_an_expansion.step(marks, before_a_blob.step(marks), behind_an_object.step(marks))
    filling = DiesWhenPickled(marks, "driver") if whom == "driver" else None
    value = last.step(marks, spread, filling).run(workflow_id)
    print("result", value.total, "as expected" if value.total == EXPECTED else "WRONG", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
