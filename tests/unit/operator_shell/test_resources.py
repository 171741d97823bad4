"""The check at the start: each problem is reported with its remedy, and the operator continues when it is solved."""

from __future__ import annotations

import asyncio
import copy
from typing import Any, cast

import pytest

from workflow_operator import resources
from workflow_operator.adapters.kube import RAYCLUSTERS, WORKFLOWS, Kube, Resource
from workflow_operator.api.crds import workflow_schema
from workflow_operator.errors import OperatorError, RefusedError, UnreachableError
from workflow_operator.leadership import LeaseLostError
from workflow_operator.resources import schema_problem, wait_for_resources


class Discovery:
    """An API server whose state changes with each look at the Workflows.

    Each state is an error, the missing resource, or the published schema (None: nothing is published).
    """

    def __init__(self, *states: OperatorError | Resource | dict[str, Any] | None) -> None:
        self.states = list(states)
        self.current: OperatorError | Resource | dict[str, Any] | None = None

    async def serves(self, resource: Resource) -> bool:
        if resource is WORKFLOWS:
            self.current = self.states.pop(0)
        if isinstance(self.current, UnreachableError):
            raise self.current
        return resource is not self.current

    async def schema(self, resource: Resource, kind: str) -> dict[str, Any] | None:
        if isinstance(self.current, RefusedError):
            raise self.current
        assert not isinstance(self.current, (OperatorError, Resource))
        return self.current


def older_schema() -> dict[str, Any]:
    """Return a schema without two of the fields of the status."""
    schema = copy.deepcopy(workflow_schema())
    for name in ("epoch", "resumes"):
        del schema["properties"]["status"]["properties"][name]
    return schema


async def reports_of(*states: OperatorError | Resource | dict[str, Any] | None) -> list[str]:
    reports: list[str] = []
    await asyncio.wait_for(wait_for_resources(cast("Kube", Discovery(*states)), reports.append), 5)
    return reports


async def test_each_problem_is_reported_until_it_is_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "CHECK_SECONDS", 0.0)
    unreachable = UnreachableError("GET /apis failed: no answer")
    reports = await reports_of(unreachable, WORKFLOWS, RAYCLUSTERS, older_schema(), workflow_schema())
    expected = (
        "cannot read the served resources: GET /apis failed: no answer; check the API server",
        "workflows.rayworkflow.dev/v1alpha1 is not served; install the chart rayworkflow-crds",
        "rayclusters.ray.io/v1 is not served; install KubeRay 1.6 or newer",
        "would lose data: status.epoch is missing, status.resumes is missing; upgrade the chart rayworkflow-crds",
    )
    assert len(reports) == len(expected)
    for report, text in zip(reports, expected, strict=True):
        assert text in report


@pytest.mark.parametrize("state", [None, RefusedError("HTTP 403")], ids=["not published", "denied"])
async def test_schema_that_cannot_be_read_does_not_stop_the_operator(state: OperatorError | None) -> None:
    assert await reports_of(state) == []


def test_many_missing_fields_are_counted() -> None:
    problem = schema_problem({"properties": {"spec": {"properties": {}}, "status": {"properties": {}}}})
    assert problem is not None
    assert ", and " in problem[0]
    assert problem[0].count("is missing") == resources.SHOWN


async def test_guarded_client_withholds_writes() -> None:
    def lost() -> None:
        raise LeaseLostError("not the leader")

    kube = Kube(cast("Any", None)).guarded(lost)
    with pytest.raises(LeaseLostError):
        await kube.create(WORKFLOWS, "team", {})
    with pytest.raises(LeaseLostError):
        await kube.patch(WORKFLOWS, "team", "trip", {})
    with pytest.raises(LeaseLostError):
        await kube.delete(WORKFLOWS, "team", "trip", "uid")
