"""Finds the manager for this process's environment, or makes it. One manager serves one environment and one store.

The environment is what decides which code a step runs: Ray's effective runtime_env, path and content of the user's
modules that are loaded, this library, the store and its credentials. Each is hashed into the actor's name, so runs with
other code or credentials have another manager, and nothing leaks between them. What a step starts is served by the
manager that serves the step: a worker has loaded whatever its steps needed, and would be found another each time.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import sysconfig
import uuid
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import ray

import workflow
from workflow.engine.driver.actor import NAMESPACE, ManagerActor
from workflow.engine.worker import context
from workflow.errors import UnavailableError
from workflow.log.values import versions
from workflow.model.run_view import Owner

GROUPS = {"waiting": 100_000, "leases": 100_000}
"""Calls at once in each concurrency group of the actor: waiting callers never keep a worker's exchange waiting."""

CALLS = 1_000
UNRESPONSIVE = 30.0
HEAD = "node:__internal_head__"


def find_or_make(store_url: str, unresponsive: float = UNRESPONSIVE) -> Any:
    """The manager of this process's environment, or of the step whose code calls.

    Args:
        store_url: where its runs lie.
        unresponsive: seconds after which a manager that does not answer is restarted.

    Returns:
        A handle of a ManagerActor that answered.

    Raises:
        Unavailable: it answers neither before nor after a restart.
        WorkflowError: it could not be made, for the reason given.
    """
    task = context.current_step()
    name = (task.manager if task is not None else "") or f"manager-{fingerprint(store_url)}"
    manager = find(name)
    if manager is None or not answers(manager, unresponsive):
        manager = _make(name, store_url)
        if not answers(manager, unresponsive):
            raise UnavailableError(
                f"manager {name} does not answer within {unresponsive:.0f} s, nor after a restart of it"
            )
    return manager


def find(name: str) -> Any:
    """The manager of that name in this cluster, or None."""
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None


def answers(manager: Any, unresponsive: float = UNRESPONSIVE) -> Owner | None:
    """Who a manager is; None where it does not answer. One that does not within the time is restarted by Ray."""
    try:
        owner: Owner = ray.get(manager.ping.remote(), timeout=unresponsive)
        return owner
    except ray.exceptions.GetTimeoutError:
        ray.kill(manager, no_restart=False)
        return None
    except ray.exceptions.RayActorError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, Exception):
            raise cause from error
        return None


def ask(ref: Any) -> Any:
    """`ray.get` for an answer of a manager: what it raised arrives as it was raised, not wrapped by Ray."""
    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None


def _make(name: str, store_url: str) -> Any:
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
    ).remote(store_url, uuid.uuid4().hex, name)


def fingerprint(store_url: str) -> str:
    """A hash of all that decides which code and which store a manager's steps meet."""
    told = [
        versions(),
        _library(),
        store_url,
        os.environ.get("AWS_ACCESS_KEY_ID", ""),
        os.environ.get("AWS_SECRET_ACCESS_KEY", ""),
        json.dumps(ray.get_runtime_context().runtime_env, sort_keys=True, default=str),
        *_users_code(),
    ]
    digest = hashlib.sha256()
    for word in told:
        digest.update(word.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()[:20]


@cache
def _library() -> str:
    """A hash of this library's own source."""
    digest = hashlib.sha256()
    root = Path(next(iter(workflow.__path__)))
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _users_code() -> list[str]:
    """Paths and content of the user's modules: those loaded from neither Python's own folders nor site-packages."""
    sources = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    paths = {_users_path(source) for source in sources if source and source.endswith(".py")}
    return [f"{path} {_content(path)}" for path in sorted(paths - {""})]


@lru_cache(100_000)
def _users_path(source: str) -> str:
    """Where a user's module really lies; empty for another's."""
    path = Path(source).resolve()
    return "" if any(path.is_relative_to(place) for place in _others()) else str(path)


@cache
def _others() -> list[Path]:
    places = {*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix, next(iter(workflow.__path__))}
    return [Path(place).resolve() for place in places]


def _content(path: str) -> str:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return "gone"
    return _digest(path, found.st_mtime_ns, found.st_size)


@lru_cache(10_000)
def _digest(path: str, changed: int, size: int) -> str:
    """Of a file, read again once its time or its size has changed."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
