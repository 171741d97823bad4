"""A driver whose steps print and log. It shares a cluster, a store and workflow ids with other drivers."""

from __future__ import annotations

import logging
import sys

import ray

import workflow
from tests.drivers.scripts.user import connect
from tests.support.marks import Marks


@workflow.step
def speak(text: str) -> None:
    print(f"printed {text}")
    logging.getLogger("users").warning("logged %s", text)


@workflow.step
def hold(marks: Marks) -> None:
    print("printed held begins")
    marks.started("held")
    marks.pass_gate("held")
    print("printed held ends")


@workflow.step
def fail_once(marks: Marks) -> None:
    marks.started("fail_once")
    print("printed flaky")
    if marks.starts()["fail_once"] == 1:
        raise ValueError("first attempt")


if __name__ == "__main__":
    storage, folder, name = sys.argv[1:]
    marks = Marks(folder)
    connect()
    if name == "first":  # the Ray of the tests has no log monitor, which sends the output of workers to drivers
        ray._private.worker._global_node.start_log_monitor()
    workflow.init(storage)
    speak.step(name).run(name)
    if name == "first":
        try:
            fail_once.step(marks).run("flaky")
        except ValueError:
            print("flaky failed")
    else:
        marks.pass_gate("second")
        ray.get(workflow.resume("flaky"))
        print("flaky resumed")
    hold.step(marks).run("held")
    print("held returned")
    marks.pass_gate("end")
