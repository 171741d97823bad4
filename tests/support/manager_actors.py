"""Creates and removes manager actors on a real Ray cluster, in the way the library creates its own."""

from __future__ import annotations

import uuid
from typing import Any

import ray

from tests.support.waiting import until
from workflow.engine.driver import discovery
from workflow.engine.driver.actor import NAMESPACE, ManagerActor


def make(kind: type[ManagerActor], store_url: str, name: str, *more: Any, **options: Any) -> Any:
    """Create a detached manager actor and return its handle.

    Args:
        kind: the class of the actor.
        store_url: the store of its runs.
        name: the name under which Ray finds it.
        *more: further arguments of its constructor.
        **options: further Ray options of the actor.
    """
    remote = ray.remote(num_cpus=0, concurrency_groups=discovery.GROUPS)(kind)
    identity = {"name": name, "namespace": NAMESPACE, "lifetime": "detached"}
    return remote.options(**identity, **options).remote(store_url, uuid.uuid4().hex, name, *more)


def end(name: str) -> None:
    """Kill the manager actor with this name, if there is one, and wait until the name is free."""
    actor = discovery.find(name)
    if actor is not None:
        ray.kill(actor, no_restart=True)
        until(lambda: discovery.find(name) is None)
