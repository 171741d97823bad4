"""A driver in a namespace and in a folder: its step finds the actor and the module that the driver has."""

from __future__ import annotations

import os
import sys

import ray

import workflow


@ray.remote(num_cpus=0)
class Counter:
    def owner(self) -> str:
        return ray.get_runtime_context().namespace


@workflow.step
def owner_of_the_actor() -> str:
    return ray.get(ray.get_actor("counter").owner.remote())


@workflow.step
def where() -> str:
    import users_helper  # loaded only in the worker

    return users_helper.WHERE


if __name__ == "__main__":
    storage, namespace, verb = sys.argv[1:]
    ray.init(address=os.environ["TEST_RAY_ADDRESS"], namespace=namespace or None, log_to_driver=False)
    workflow.init(storage)
    if verb == "actor":
        counter = Counter.options(name="counter").remote()
        print("result", owner_of_the_actor.step().run() == ray.get_runtime_context().namespace)
    else:
        print("result", where.step().run())
