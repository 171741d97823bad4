"""Finds the manager for this process's environment, or creates it. A manager serves one environment and one store.

The environment decides which code a step runs. It consists of the driver, Ray's effective runtime_env, the paths and
content of the user's loaded modules, this library, the store and its credentials. Their hash is part of the actor's
name. So runs with other code or credentials have another manager, and no code or credentials leak between them.

Each driver has managers of its own, because a manager's workers keep the modules that they have imported. A second
driver may have been started after one of these modules was edited. Ray uses the workers of one driver only for tasks
of that driver, which the actor belongs to. They have its namespace and its `sys.path`. Workflows that a step starts are
served by the manager of that step.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import uuid
from collections.abc import Callable
from typing import Any

import ray

import workflow
from workflow.engine.driver import departure, user_code, worker_imports
from workflow.engine.driver.actor import NAMESPACE, ManagerActor
from workflow.engine.driver.progress import REPORT_AFTER
from workflow.engine.messages import StoreWitness
from workflow.engine.worker import context, same_store
from workflow.errors import UnavailableError
from workflow.log.values import versions
from workflow.model.run_view import Owner
from workflow.store.credentials import SETTINGS

GROUPS = {"waiting": 100_000, "leases": 100_000}
"""Concurrent calls in each concurrency group of the actor. Waiting callers never delay the exchanges of workers."""

CALLS = 1_000
"""Concurrent calls of all other methods."""

UNRESPONSIVE = 30.0
"""Seconds after which a manager that does not answer is restarted."""

WAIT_REASON_TIMEOUT = 2.0
"""Seconds after which a caller no longer waits for the reason why a step has no worker."""

HEAD = "node:__internal_head__"
"""Ray's resource that only the head node has."""

logger = logging.getLogger(__name__)


def find_or_create(store_url: str, unresponsive: float = UNRESPONSIVE) -> Any:
    """Return the manager of the step whose code calls, or that of this process's environment.

    Args:
        store_url: address of the store.
        unresponsive: seconds after which a manager that does not answer is restarted.

    Returns:
        A handle of a ManagerActor that answered.

    Raises:
        UnavailableError: the manager does not answer, not even after a restart.
        StoreRefusedError: the manager does not see the store that this process sees, or may not use it.
        WorkflowError: the manager could not be created.
    """
    task = context.current_step()
    name = (task.manager if task is not None else "") or f"manager-{fingerprint(store_url)}"
    manager = find(name)
    answered = answers(manager, unresponsive) if manager is not None else None
    if answered is None:
        manager = _create(name, store_url)
        answered = answers(manager, unresponsive)
        if answered is None:
            raise UnavailableError(
                f"manager {name} did not answer within {unresponsive:.0f} s, also after a restart; try again later, "
                "or read the actor's log on the head node"
            )
    departure.expect(answered, store_url)
    if not same_store.is_proven(store_url, answered.manager):
        same_store.prove(_witness(manager), lambda: _witness(manager), "this process")
    return manager


def _witness(manager: Any) -> StoreWitness:
    witness: StoreWitness = ask(manager.show_store.remote(), lambda: "the manager to reach its store")
    return witness


def find(name: str) -> Any:
    """Return the manager with this name in the cluster, or None."""
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None


def find_owner(owner: Owner, unresponsive: float = UNRESPONSIVE) -> Any:
    """Return the manager in the cluster that is the owner of a run, if it answers; else None.

    Args:
        owner: the owner that the log of the run names.
        unresponsive: seconds after which a manager that does not answer is restarted.
    """
    manager = find(owner.address) if owner.address else None
    answered = answers(manager, unresponsive) if manager is not None else None
    return manager if answered is not None and answered.manager == owner.manager else None


def answers(manager: Any, unresponsive: float = UNRESPONSIVE) -> Owner | None:
    """Ping a manager. If it does not answer in time, Ray restarts it.

    Returns:
        The identity of the manager; None if it did not answer.

    Raises:
        InvalidInputError: the workers of Ray cannot import this library.
    """
    try:
        owner: Owner = get_patiently(
            manager.ping.remote(),
            lambda: f"the manager of this driver to answer; it is restarted after {unresponsive:.0f} s",
            unresponsive,
        )
        return owner
    except ray.exceptions.GetTimeoutError:
        ray.kill(manager, no_restart=False)
        return None
    except ray.exceptions.RayActorError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, Exception):
            raise cause from error
        hiding = worker_imports.hiding_file(worker_imports.folders_here(), next(iter(workflow.__path__)))
        refused = worker_imports.explained(str(error), hiding)
        if refused is not None:
            raise refused from error
        return None


def wait_reason(address: str, run_uuid: str, step_id: str) -> str:
    """Return why a running step waits for a worker, if the manager with this name is in this cluster and knows it."""
    manager = find(address)
    if manager is None or not hasattr(manager, "wait_reason"):  # an earlier version of this library created it
        return ""
    try:
        reason: str = ray.get(manager.wait_reason.remote(run_uuid, step_id), timeout=WAIT_REASON_TIMEOUT)
        return reason
    except (ray.exceptions.GetTimeoutError, ray.exceptions.RayActorError):
        return ""


def ask(ref: Any, waits_for: Callable[[], str]) -> Any:
    """Return the result of a manager's method. An exception is raised as the manager raised it, not wrapped by Ray.

    Args:
        ref: the reference of the result.
        waits_for: describes what is waited for. It is called once and logged if the result takes more than a few
            seconds.
    """
    try:
        return get_patiently(ref, waits_for)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None


def get_patiently(ref: Any, waits_for: Callable[[], str], timeout: float | None = None) -> Any:
    """Call `ray.get`, and log once what is waited for if it takes more than `REPORT_AFTER` seconds.

    Args:
        ref: the reference.
        waits_for: describes what is waited for.
        timeout: seconds after which `ray.exceptions.GetTimeoutError` is raised; None to wait without limit.
    """
    if timeout is not None and timeout <= REPORT_AFTER:
        return ray.get(ref, timeout=timeout)
    try:
        return ray.get(ref, timeout=REPORT_AFTER)
    except ray.exceptions.GetTimeoutError:
        logger.warning("still waiting for %s", waits_for())
    return ray.get(ref, timeout=None if timeout is None else timeout - REPORT_AFTER)


def _create(name: str, store_url: str) -> Any:
    on_head = {HEAD: 0.001} if HEAD in ray.cluster_resources() else {}
    remote = ray.remote(num_cpus=0, concurrency_groups=GROUPS)(ManagerActor)
    return remote.options(
        name=name,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=-1,
        max_concurrency=CALLS,
        resources=on_head,
        # Without a strategy, Ray would create it in the placement group of a caller that captures child tasks.
        scheduling_strategy="DEFAULT",
    ).remote(store_url, uuid.uuid4().hex, name)


def fingerprint(store_url: str) -> str:
    """Return a hash of everything that decides which code the steps of a manager run and which store they use."""
    context_here = ray.get_runtime_context()
    parts = [
        context_here.get_job_id(),
        versions(),
        user_code.library_code(),
        store_url,
        *(os.environ.get(name, "") for name in SETTINGS),
        json.dumps(context_here.runtime_env, sort_keys=True, default=str),
        *user_code.loaded_code(sys.modules),
    ]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:20]
