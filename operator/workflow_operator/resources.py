"""The check at the start: the API server serves the resources that the operator needs, in a version that suffices.

A replica that finds a problem is not ready, reports it, and looks again. It does not exit, because a restart does not
install a CRD, and each restart delays the next look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from workflow_operator.adapters.kube import RAYCLUSTERS, WORKFLOWS, Kube
from workflow_operator.api import KIND
from workflow_operator.api.crds import workflow_schema
from workflow_operator.core.served_schema import differences
from workflow_operator.errors import OperatorError, RefusedError

CHECK_SECONDS = 5.0
SHOWN = 5
"""How many differences of the schema are named."""

INSTALL = "install the chart rayworkflow-crds, or run: kubectl apply --server-side -f crds/"
UPGRADE = (
    "upgrade the chart rayworkflow-crds to the version of this operator: helm upgrade rayworkflow-crds "
    "charts/rayworkflow-crds, or run: kubectl apply --server-side --force-conflicts -f crds/"
)
log = structlog.get_logger(__name__)


async def wait_for_resources(kube: Kube, report: Callable[[str], None]) -> None:
    """Wait until the API server serves all resources in a version that suffices.

    Args:
        kube: the API server.
        report: called with the problem before each wait.
    """
    while (problem := await _problem(kube)) is not None:
        what, remedy = problem
        report(f"{what}; {remedy}")
        log.warning(what, remedy=remedy)
        await asyncio.sleep(CHECK_SECONDS)


async def _problem(kube: Kube) -> tuple[str, str] | None:
    """Return what is wrong and what to do, or None."""
    try:
        for resource, remedy in ((WORKFLOWS, INSTALL), (RAYCLUSTERS, "install KubeRay 1.6 or newer")):
            if not await kube.serves(resource):  # the watches look for it only once
                return f"resource {resource.plural}.{resource.group_version} is not served", remedy
        return schema_problem(await _served_schema(kube))
    except OperatorError as error:
        return f"cannot read the served resources: {error}", "check the API server and the operator's ServiceAccount"


def schema_problem(served: dict[str, Any] | None) -> tuple[str, str] | None:
    """Return what the served schema of Workflow lacks and what to do, or None.

    Args:
        served: the schema of the API server; None if it publishes none.
    """
    if served is None:
        return None
    missing = differences(workflow_schema(), served)
    if not missing:
        return None
    more = f", and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return (
        f"the CRD of Workflow is older than this operator, which would lose data: {', '.join(missing[:SHOWN])}{more}",
        UPGRADE,
    )


async def _served_schema(kube: Kube) -> dict[str, Any] | None:
    try:
        return await kube.schema(WORKFLOWS, KIND)
    except RefusedError as error:
        log.warning("cannot check the version of the CRD: reading the OpenAPI schema is denied", error=str(error))
        return None
