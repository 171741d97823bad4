"""Managers' actors of a kind of their own, for tests on a real Ray: made as the library makes its own, and ended."""

from __future__ import annotations

import uuid
from typing import Any

import ray

from tests.support.waiting import until
from workflow.engine.driver import discovery
from workflow.engine.driver.actor import NAMESPACE, ManagerActor


def make(kind: type[ManagerActor], store_url: str, name: str, *more: Any, **options: Any) -> Any:
    """A manager's actor.

    Args:
        kind: its class.
        store_url: where its runs lie.
        name: under which it is found.
        *more: arguments of its constructor behind those that every manager has.
        **options: Ray's, beside its name and its life beyond that of its driver.
    """
    remote = ray.remote(num_cpus=0, concurrency_groups=discovery.GROUPS)(kind)
    kept = {"name": name, "namespace": NAMESPACE, "lifetime": "detached"}
    return remote.options(**kept, **options).remote(store_url, uuid.uuid4().hex, name, *more)


def end(name: str) -> None:
    """Kill the manager of that name for good, if there is one; returns once the name is free."""
    before = discovery.find(name)
    if before is not None:
        ray.kill(before, no_restart=True)
        until(lambda: discovery.find(name) is None)
