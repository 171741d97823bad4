"""Ends the Ray that it started while a run is in progress: first by `ray.shutdown()`, then by its own exit.

endings.py STORE MARKS
"""

from __future__ import annotations

import sys

import ray
from user import connect

import workflow
from tests.support.marks import Marks
from workflow.errors import OwnerLostError


@workflow.step
def first(marks: Marks) -> str:
    marks.started("first")
    return "value"


@workflow.step
def gated(marks: Marks, value: str) -> str:
    marks.started("gated")
    marks.pass_gate("end")
    return value


def main(store: str, folder: str) -> None:
    marks = Marks(folder)
    connect()
    workflow.init(store)
    gated.step(marks, first.step(marks)).run_async("w")
    marks.wait_started("gated")
    ray.shutdown()

    connect()
    workflow.init(store)
    print("after the shutdown:", workflow.get_status("w"), flush=True)
    for name in (None, "__main__.gated"):
        try:
            ray.get(workflow.get_output("w", name=name))
        except OwnerLostError as error:
            cause = getattr(error, "cause", error)  # `ray.get` raises an error of both classes
            print(f"refused {type(cause).__name__}: {cause}", flush=True)
    print("a finished step:", ray.get(workflow.get_output("w", name="__main__.first")), flush=True)
    print("resumed:", [workflow_id for workflow_id, _ in workflow.resume_all()], flush=True)
    marks.wait_started("gated", 2)
    print("end of the script", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
