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
    RunUnread,
    SecretView,
    SubmissionView,
    WorkflowObject,
)
from workflow_operator.core.read_plan import Questions, head_to_ask, questions


@dataclass(frozen=True)
class World:
    """Everything outside that a round touches."""

    workflows: ports.Workflows
    clusters: ports.Clusters
    jobs: ports.Jobs
    runs: ports.Runs
    references: ports.References


async def observe(world: World, workflow: WorkflowObject, defaults: Defaults, refused: str = "") -> Observation:
    """Look at the world once, for one Workflow.

    Args:
        world: where to look.
        workflow: the object, just read.
        defaults: the operator's settings.
        refused: why the last round's action was refused, or empty.

    Raises:
        Unreachable: the API server could not be read; the round is given up.
    """
    asked = questions(workflow, defaults)
    clusters, candidates, secret, config_map = await asyncio.gather(
        world.clusters.owned(workflow.namespace, workflow.uid),
        _candidates(world, workflow, asked),
        _secret(world, workflow, asked),
        _config_map(world, workflow, asked),
    )
    named = await _named(world, workflow, asked, (*clusters, *candidates))
    submission = await _submission(world, workflow, asked, named)
    return Observation(
        workflow=workflow,
        defaults=defaults,
        clusters=clusters,
        named=named,
        candidates=candidates,
        submission=submission,
        run=await _run(world, workflow, asked, secret),
        secret=secret,
        config_map=config_map,
        refused=refused,
    )


async def _candidates(world: World, workflow: WorkflowObject, asked: Questions) -> tuple[ClusterView, ...]:
    return await world.clusters.matching(workflow.namespace, asked.selector) if asked.selector else ()


async def _secret(world: World, workflow: WorkflowObject, asked: Questions) -> SecretView | None:
    return await world.references.secret(workflow.namespace, asked.secret) if asked.secret else None


async def _config_map(world: World, workflow: WorkflowObject, asked: Questions) -> ConfigMapView | None:
    return await world.references.config_map(workflow.namespace, asked.config_map) if asked.config_map else None


async def _named(
    world: World, workflow: WorkflowObject, asked: Questions, seen: tuple[ClusterView, ...]
) -> ClusterView | None:
    if not asked.cluster:
        return None
    known = next((cluster for cluster in seen if cluster.name == asked.cluster), None)
    return known or await world.clusters.named(workflow.namespace, asked.cluster)


async def _submission(
    world: World, workflow: WorkflowObject, asked: Questions, named: ClusterView | None
) -> SubmissionView | HeadUnreachable | None:
    head = head_to_ask(workflow, named) if asked.submission else None
    return await world.jobs.state(workflow.namespace, head, asked.submission) if head else None


async def _run(
    world: World, workflow: WorkflowObject, asked: Questions, secret: SecretView | None
) -> RunRead | RunUnread | None:
    if asked.store is None or (secret is not None and (not secret.present or secret.missing)):
        return None
    return await world.runs.read(workflow.namespace, asked.store, asked.workflow_id, asked.staged, asked.code)
