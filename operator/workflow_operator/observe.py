"""Gathers one Observation. It reads exactly what `core.read_plan` lists, and decides nothing.

The submission is read before the log. So if the observation shows a finished submission and an unfinished run, the run
was unfinished after the submission ended.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from workflow_operator.core import ports
from workflow_operator.core.observation import (
    ClusterView,
    ConfigMapView,
    Defaults,
    HeadUnreachable,
    Observation,
    RunRead,
    RunReadFailure,
    SecretView,
    SubmissionView,
    WorkflowObject,
)
from workflow_operator.core.read_plan import ReadPlan, head_to_query, read_plan


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
    clusters, candidates, secret, config_map = await asyncio.gather(
        clients.clusters.owned(workflow.namespace, workflow.uid),
        _candidates(clients, workflow, plan),
        _secret(clients, workflow, plan),
        _config_map(clients, workflow, plan),
    )
    named = await _named(clients, workflow, plan, (*clusters, *candidates))
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
    )


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
) -> SubmissionView | HeadUnreachable | None:
    head = head_to_query(workflow, named) if plan.submission else None
    return await clients.jobs.state(workflow.namespace, head, plan.submission) if head else None


async def _run(
    clients: Clients, workflow: WorkflowObject, plan: ReadPlan, secret: SecretView | None
) -> RunRead | RunReadFailure | None:
    credentials_incomplete = secret is not None and (not secret.present or bool(secret.missing))
    if plan.store is None or credentials_incomplete:
        return None
    return await clients.runs.read(workflow.namespace, plan.store, plan.workflow_id, plan.staged, plan.code)
