"""Gathers one Observation: asks exactly what `core.questions` lists, and decides nothing.

The order matters in one place: the submission is asked about before the log is read, so that "the submission ended and
the log has no end" is never an artefact of the order.
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
    """Everything outside that a round touches."""

    workflows: ports.Workflows
    clusters: ports.Clusters
    jobs: ports.Jobs
    runs: ports.Runs
    references: ports.References


async def observe(clients: Clients, workflow: WorkflowObject, defaults: Defaults, refused: str = "") -> Observation:
    """Look at the world once, for one Workflow.

    Args:
        world: where to look.
        workflow: the object, just read.
        defaults: the operator's settings.
        refused: why the last round's action was refused, or empty.

    Raises:
        Unreachable: the API server could not be read; the round is given up.
    """
    asked = read_plan(workflow, defaults)
    clusters, candidates, secret, config_map = await asyncio.gather(
        clients.clusters.owned(workflow.namespace, workflow.uid),
        _candidates(clients, workflow, asked),
        _secret(clients, workflow, asked),
        _config_map(clients, workflow, asked),
    )
    named = await _named(clients, workflow, asked, (*clusters, *candidates))
    submission = await _submission(clients, workflow, asked, named)
    return Observation(
        workflow=workflow,
        defaults=defaults,
        clusters=clusters,
        named=named,
        candidates=candidates,
        submission=submission,
        run=await _run(clients, workflow, asked, secret),
        secret=secret,
        config_map=config_map,
        refused=refused,
    )


async def _candidates(clients: Clients, workflow: WorkflowObject, asked: ReadPlan) -> tuple[ClusterView, ...]:
    return await clients.clusters.matching(workflow.namespace, asked.selector) if asked.selector else ()


async def _secret(clients: Clients, workflow: WorkflowObject, asked: ReadPlan) -> SecretView | None:
    return await clients.references.secret(workflow.namespace, asked.secret) if asked.secret else None


async def _config_map(clients: Clients, workflow: WorkflowObject, asked: ReadPlan) -> ConfigMapView | None:
    return await clients.references.config_map(workflow.namespace, asked.config_map) if asked.config_map else None


async def _named(
    clients: Clients, workflow: WorkflowObject, asked: ReadPlan, seen: tuple[ClusterView, ...]
) -> ClusterView | None:
    if not asked.cluster:
        return None
    known = next((cluster for cluster in seen if cluster.name == asked.cluster), None)
    return known or await clients.clusters.named(workflow.namespace, asked.cluster)


async def _submission(
    clients: Clients, workflow: WorkflowObject, asked: ReadPlan, named: ClusterView | None
) -> SubmissionView | HeadUnreachable | None:
    head = head_to_query(workflow, named) if asked.submission else None
    return await clients.jobs.state(workflow.namespace, head, asked.submission) if head else None


async def _run(
    clients: Clients, workflow: WorkflowObject, asked: ReadPlan, secret: SecretView | None
) -> RunRead | RunReadFailure | None:
    if asked.store is None or (secret is not None and (not secret.present or secret.missing)):
        return None
    return await clients.runs.read(workflow.namespace, asked.store, asked.workflow_id, asked.staged, asked.code)
