"""Gathers one Observation. It reads exactly what `core.read_plan` lists, and decides nothing.

The submission is read before the log. So if the observation shows a finished submission and an unfinished run, the run
was unfinished after the submission ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from workflow_operator.core import ports
from workflow_operator.core.log_facts import is_missing
from workflow_operator.core.observation import (
    ClusterView,
    ConfigMapView,
    Defaults,
    Disruption,
    HeadRefused,
    HeadUnreachable,
    Observation,
    RunRead,
    RunReadFailure,
    SecretView,
    SubmissionView,
    WorkflowObject,
)
from workflow_operator.core.read_plan import ReadPlan, head_to_query, read_plan
from workflow_operator.errors import RefusedError

T = TypeVar("T")


@dataclass(frozen=True)
class Clients:
    """The clients of all external systems that a reconciliation reads or changes."""

    workflows: ports.Workflows
    clusters: ports.Clusters
    jobs: ports.Jobs
    runs: ports.Runs
    references: ports.References


async def observe(clients: Clients, workflow: WorkflowObject, defaults: Defaults, refused: str = "") -> Observation:
    """Read everything that a decision about one Workflow depends on.

    Args:
        clients: the systems to read.
        workflow: the object, just read from the API server.
        defaults: the operator's settings.
        refused: why an action of the previous reconciliation was refused, or empty.

    Raises:
        UnreachableError: the API server could not be read.
    """
    plan = read_plan(workflow, defaults)
    terminating = plan.namespace and await clients.references.namespace_terminating(workflow.namespace)
    no_clusters: tuple[ClusterView, ...] = ()
    absent = SecretView(plan.secret, present=False) if plan.secret else None
    clusters, candidates, secret, config_map = await asyncio.gather(
        _allowed(lambda: clients.clusters.owned(workflow.namespace, workflow.uid), no_clusters, terminating),
        _allowed(lambda: _candidates(clients, workflow, plan), no_clusters, terminating),
        _allowed(lambda: _secret(clients, workflow, plan), absent, terminating),
        _allowed(lambda: _config_map(clients, workflow, plan), None, terminating),
    )
    named = await _allowed(lambda: _named(clients, workflow, plan, (*clusters, *candidates)), None, terminating)
    submission = await _submission(clients, workflow, plan, named)
    return Observation(
        workflow=workflow,
        defaults=defaults,
        clusters=clusters,
        named=named,
        candidates=candidates,
        submission=submission,
        run=await _run(clients, workflow, plan, secret),
        secret=secret,
        config_map=config_map,
        refused=refused,
        disruption=await _allowed(lambda: _disruption(clients, workflow, plan, named), None, terminating),
        namespace_terminating=terminating,
    )


async def _allowed(read: Callable[[], Awaitable[T]], absent: T, terminating: bool) -> T:
    """Return what was read. In a namespace that is being deleted, the operator's Role may be gone already.

    Args:
        read: starts to read objects of the namespace. A coroutine would never be awaited if this task is cancelled
            before its first step.
        absent: the value for an absent object. It is returned if the read is refused in such a namespace.
        terminating: whether the namespace is being deleted.
    """
    try:
        return await read()
    except RefusedError:
        if not terminating:
            raise
        return absent


async def _candidates(clients: Clients, workflow: WorkflowObject, plan: ReadPlan) -> tuple[ClusterView, ...]:
    return await clients.clusters.matching(workflow.namespace, plan.selector) if plan.selector else ()


async def _secret(clients: Clients, workflow: WorkflowObject, plan: ReadPlan) -> SecretView | None:
    return await clients.references.secret(workflow.namespace, plan.secret) if plan.secret else None


async def _config_map(clients: Clients, workflow: WorkflowObject, plan: ReadPlan) -> ConfigMapView | None:
    return await clients.references.config_map(workflow.namespace, plan.config_map) if plan.config_map else None


async def _named(
    clients: Clients, workflow: WorkflowObject, plan: ReadPlan, already_read: tuple[ClusterView, ...]
) -> ClusterView | None:
    if not plan.cluster:
        return None
    known = next((cluster for cluster in already_read if cluster.name == plan.cluster), None)
    return known or await clients.clusters.named(workflow.namespace, plan.cluster)


async def _submission(
    clients: Clients, workflow: WorkflowObject, plan: ReadPlan, named: ClusterView | None
) -> SubmissionView | HeadUnreachable | HeadRefused | None:
    head = head_to_query(workflow, named) if plan.submission else None
    return await clients.jobs.state(workflow.namespace, head, plan.submission) if head else None


async def _disruption(
    clients: Clients, workflow: WorkflowObject, plan: ReadPlan, named: ClusterView | None
) -> Disruption | None:
    """Read why the recorded head pod ends, if it is gone or being deleted while a submission is expected on it."""
    recorded = workflow.state.cluster.head if workflow.state.cluster and plan.submission else None
    head = named.head if named is not None else None
    if recorded is None:
        return None
    if head is not None and head.identity.pod_uid == recorded.pod_uid and (head.disruption or not head.deleting):
        return None
    return await clients.clusters.disruption(workflow.namespace, recorded.pod_uid)


async def _run(
    clients: Clients, workflow: WorkflowObject, plan: ReadPlan, secret: SecretView | None
) -> RunRead | RunReadFailure | None:
    credentials_incomplete = secret is not None and (not secret.present or bool(secret.missing))
    if plan.store is None or credentials_incomplete:
        return None
    found = await clients.runs.read(workflow.namespace, plan.store, plan.workflow_id, plan.staged, plan.code)
    if isinstance(found, RunRead) and plan.recorded is not None and is_missing(workflow, found):
        return await clients.runs.loss(workflow.namespace, plan.recorded) or found
    return found
