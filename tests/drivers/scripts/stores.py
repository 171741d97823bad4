"""Uses addresses that lead to another store, or to none, on some nodes; prints the errors.

stores.py FOLDER SECOND_NODE BUCKET

The first node was started in FOLDER. SECOND_NODE is a resource of the second node. Only this process has credentials
for the address BUCKET.
"""

from __future__ import annotations

import os
import sys
import time

import ray

import workflow
from workflow.errors import StoreRefusedError

HEAD_FOLDER, SECOND_NODE, BUCKET = sys.argv[1:]


@workflow.step
def one() -> int:
    return 1


def refused(case: str, step: workflow.Workflow[int], workflow_id: str = "") -> None:
    """Run a workflow, and print why the store was refused."""
    began = time.monotonic()
    try:
        print(case, "returned", step.run(workflow_id or case), flush=True)
    except StoreRefusedError as error:
        print(f"{case} after {time.monotonic() - began:.0f} s: {error}", flush=True)


ray.init(address=os.environ["TEST_RAY_ADDRESS"])

# The folder of each process is that in which its node was started. So one path leads to one store on each node.
workflow.init("file:///proc/self/cwd/flows")
for case in ("manager", "again"):
    refused(case, one.step(), "w")
print("left", sorted(os.listdir("flows")), flush=True)

os.chdir(HEAD_FOLDER)
workflow.init("file:///proc/self/cwd/other-flows")
refused("same", one.step())
refused("worker", one.options(resources={SECOND_NODE: 1}).step())

workflow.init(BUCKET)
refused("credentials", one.step())
print("end", flush=True)
