"""Steps that kill their process before or after it stores their values, once each.

deadly.py STORE MARKS WORKFLOW_ID (worker | driver-while-storing | driver-before-calling)
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import ray
from user import connect

import workflow
from tests.support.marks import Marks
from workflow.engine.driver.client import Client, RunOptions
from workflow.engine.worker import context
from workflow.engine.worker.run_values import RunValues
from workflow.log.blobs import Blobs
from workflow.model.graph import Graph
from workflow.store import open_store

LARGE = 200_000
MIDDLING = 40_000
"""Bytes of an argument that is stored inline in its DAG. Three of them make the DAG large enough for a blob."""


def die_once(marks: Marks, where: str) -> None:
    """Kill this process with SIGKILL if it is the first at this place. It first records which blobs are stored."""
    store = open_store(context.store_url())
    marks.die_once(where, lambda: "\n".join(info.key for info in store.list("workflows/") if "/blobs/" in info.key))


class DiesWhenPickled:
    """Kills the first process that pickles it."""

    def __init__(self, marks: Marks, where: str) -> None:
        self.marks = marks
        self.where = where

    def __reduce__(self) -> tuple[Any, ...]:
        die_once(self.marks, self.where)
        return DiesWhenPickled, (self.marks, self.where)


@dataclass(frozen=True)
class Total:
    """The value of the run, which is too large to be stored within a record."""

    total: int
    filling: bytes


def die_after_its_value(marks: Marks) -> None:
    """Kill this worker after it stored the value of its step. No code of the user runs between that and its reply."""
    keep = RunValues.store_value

    def keep_and_die(values: RunValues, value: Any, step_id: str) -> Any:
        kept = keep(values, value, step_id)
        die_once(marks, "after-a-blob")
        return kept

    RunValues.store_value = keep_and_die  # type: ignore[method-assign]


def die_after_its_dag(marks: Marks) -> None:
    """Kill this worker after it stored a DAG. No code of the user runs between that and its reply."""
    keep = Blobs.store_graph

    def keep_and_die(blobs: Blobs, graph: Graph) -> tuple[Graph | None, str]:
        kept = keep(blobs, graph)
        die_once(marks, "after-a-dag")
        return kept

    Blobs.store_graph = keep_and_die  # type: ignore[method-assign]


def die_while_storing(marks: Marks, where: str) -> None:
    """Kill this driver after it stored one blob, before it stores the next one."""
    put, stored = Blobs.put, list[str]()

    def put_or_die(blobs: Blobs, data: Any) -> str:
        if stored:
            die_once(marks, where)
        stored.append(put(blobs, data))
        return stored[-1]

    Blobs.put = put_or_die  # type: ignore[method-assign]


def die_before_calling(marks: Marks, where: str) -> None:
    """Kill this driver after it stored everything for its run, before it calls a manager to start the run."""
    call = Client._call_manager

    def die_and_call(client: Client, options: RunOptions, method: str, *arguments: Any) -> tuple[Any, Any]:
        if method == "start":
            die_once(marks, where)
        return call(client, options, method, *arguments)

    Client._call_manager = die_and_call  # type: ignore[method-assign]


@workflow.step(name="before")
def before_a_blob(marks: Marks) -> Any:
    marks.started("before")
    return [b"b" * LARGE, DiesWhenPickled(marks, "before-a-blob")]


@workflow.step(name="object")
def after_an_object(marks: Marks) -> Any:
    marks.started("object")
    return [ray.put(b"o" * LARGE), DiesWhenPickled(marks, "after-an-object")]


@workflow.step(name="spread")
def in_an_expansion(marks: Marks, *values: Any) -> Any:
    marks.started("spread")
    die_after_its_dag(marks)
    size = len(values[0][0]) + len(ray.get(values[1][0]))
    parts = [part.options(name=f"part{n}").step(marks, n, b"p" * MIDDLING) for n in range(3)]
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
    die_after_its_value(marks)
    return Total(found, b"l" * LARGE)


EXPECTED = 2 * LARGE + 3


def main(store: str, folder: str, workflow_id: str, mode: str) -> None:
    connect()
    workflow.init(store)
    marks = Marks(folder)
    if mode == "driver-while-storing":
        die_while_storing(marks, mode)
    if mode == "driver-before-calling":
        die_before_calling(marks, mode)
    # The arguments of the last step are stored first, then those of the step before it.
    spread = in_an_expansion.step(marks, before_a_blob.step(marks), after_an_object.step(marks))
    value = last.step(marks, spread, b"d" * LARGE).run(workflow_id)
    print("result", value.total, "as expected" if value.total == EXPECTED else "WRONG", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
