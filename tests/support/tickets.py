"""A user's program with classes of its own, and the same program after its last step was edited.

`job.py STORE FAILS (run | resume)`: the last step fails while the file FAILS exists.
"""

from __future__ import annotations

PROGRAM = """
import dataclasses
import enum
import os
import sys

import ray

import workflow


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Ticket:
    color: Color


class SoldOutError(Exception):
    pass


@workflow.step
def issue(color):
    assert color is Color.RED
    return Ticket(color)


@workflow.step(max_retries=1)
def check(ticket, fails):
    assert isinstance(ticket, Ticket), type(ticket)
    assert ticket == Ticket(Color.RED)
    if os.path.exists(fails):
        raise SoldOutError("gone")
    return ticket, "first code"


def main(store, fails, verb="run"):
    package = os.environ.get("TEST_WORKING_DIR")
    ray.init(address=os.environ["TEST_RAY_ADDRESS"], runtime_env={"working_dir": package} if package else None)
    workflow.init(store)
    try:
        if verb == "run":
            ticket, code = check.step(issue.step(Color.RED), fails).run("w")
        else:
            ((_, reference),) = workflow.resume_all(include_failed=True)
            ticket, code = ray.get(reference)
        print("result:", ticket == Ticket(Color.RED), ticket.color is Color.RED, code, flush=True)
    except SoldOutError as error:
        print("result: caught", error, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
"""
EDITED = PROGRAM.replace("first code", "second code")
