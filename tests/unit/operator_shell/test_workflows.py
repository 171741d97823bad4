"""The adapter for Workflow objects: a status that the API server refuses is shortened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from tests.unit.operator import build
from workflow_operator.adapters.kube import ContentRefusedError, Kube, Object, Resource, error_of_response
from workflow_operator.adapters.workflows import KubeWorkflows
from workflow_operator.api.status import Phase
from workflow_operator.errors import ConflictError, RefusedError, UnreachableError


@dataclass
class RefusingKube:
    """An API server that answers some status patches with an error, and records all bodies."""

    errors: list[Exception]
    bodies: list[Object] = field(default_factory=list)
    events: list[Object] = field(default_factory=list)

    async def patch(self, resource: Resource, namespace: str, name: str, body: Object, **_: Any) -> Object:
        self.bodies.append(body)
        if self.errors:
            raise self.errors.pop(0)
        return {"metadata": {"resourceVersion": "8"}}

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        self.events.append(body)
        return body


STATE = build.state(Phase.SUCCEEDED, result='"x"')


async def patch(kube: RefusingKube) -> str:
    return await KubeWorkflows(cast("Kube", kube)).patch_status(build.workflow(), STATE)


TOO_LARGE = ContentRefusedError("too large")


@pytest.mark.parametrize("refused", range(5))
async def test_refused_status_is_shortened_until_it_is_accepted(refused: int) -> None:
    kube = RefusingKube([TOO_LARGE] * refused)
    assert await patch(kube) == "8"
    assert len(kube.bodies) == refused + 1
    assert {body["metadata"]["resourceVersion"] for body in kube.bodies} == {"7"}
    assert {body["status"]["phase"] for body in kube.bodies} == {"Succeeded"}
    assert [body["status"]["result"] for body in kube.bodies] == ['"x"', *[None] * refused]
    assert not kube.events


async def test_event_explains_that_no_status_is_accepted() -> None:
    kube = RefusingKube([TOO_LARGE] * 9)
    with pytest.raises(ContentRefusedError):
        await patch(kube)
    (event,) = kube.events
    assert event["reason"] == "StatusRefused"
    assert "shorten its spec: too large" in event["message"]


@pytest.mark.parametrize("error", [ConflictError("changed"), UnreachableError("no answer"), RefusedError("forbidden")])
async def test_other_errors_are_not_answered_by_a_shorter_status(error: Exception) -> None:
    kube = RefusingKube([error])
    with pytest.raises(type(error)):
        await patch(kube)
    assert len(kube.bodies) == 1


async def test_conflict_of_a_shorter_status_is_a_conflict() -> None:
    with pytest.raises(ConflictError):
        await patch(RefusingKube([TOO_LARGE, ConflictError("changed")]))


@pytest.mark.parametrize(
    ("status", "text", "refused"),
    [
        (413, "Request entity too large: limit is 3145728", True),
        (422, "status.result: Invalid value", True),
        (400, "cannot unmarshal number", True),
        (500, "etcdserver: request is too large", True),
        (500, "rpc error: code = ResourceExhausted desc = trying to send message larger than max", True),
        (500, "etcdserver: leader changed", False),
        (403, "forbidden", False),
        (429, "too many requests", False),
    ],
)
def test_refused_content_is_recognized(status: int, text: str, refused: bool) -> None:
    raised = error_of_response("PATCH", "/apis", status, f'{{"message": "{text}"}}')
    assert isinstance(raised, ContentRefusedError) is refused
