"""A cluster that cannot execute the steps of a Workflow's run: the run is released, and does not fail."""

from __future__ import annotations

from typing import Literal

import pytest

from tests.support import runs
from tests.support.fake_runner import raised, returned
from tests.support.managers import ManagerFixture, never_returns, with_timeout
from tests.support.waiting import eventually
from workflow.engine.owner.environment import check_environment
from workflow.engine.owner.manager import ClaimRequest
from workflow.errors import InvalidInputError, StoreRefusedError
from workflow.model.run_view import Owner
from workflow.model.status import WorkflowStatus
from workflow.reading import read_run

Environment = Literal["", "inputs", "store"]
OBJECT = Owner("m1", "i1", "manager-1", uid="u", attempt=1)


@pytest.mark.parametrize(
    ("environment", "epoch", "error"),
    [
        ("inputs", 2, InvalidInputError),
        ("inputs", 1, None),
        ("store", 2, StoreRefusedError),
        ("store", 1, StoreRefusedError),
        ("", 2, None),
    ],
)
@pytest.mark.parametrize("owner", [OBJECT, runs.OWNER], ids=["Workflow object", "driver"])
def test_only_the_run_of_an_object_is_released(
    environment: Environment, epoch: int, error: type[Exception] | None, owner: Owner
) -> None:
    state = runs.state_of(runs.graph("a"), *([[runs.claimed(2, owner)]] if epoch == 2 else []), owner=owner)
    result = raised("a", environment=environment)
    if error is None or not owner.uid:
        check_environment(state, result)
        return
    with pytest.raises(error, match="step 'a' cannot be executed on this cluster: boom; correct the"):
        check_environment(state, result)


def test_value_is_accepted_in_any_epoch() -> None:
    check_environment(runs.state_of(runs.graph("a"), [runs.claimed(2, OBJECT)], owner=OBJECT), returned())


async def test_run_is_released_and_continues_on_another_cluster() -> None:
    fixture = ManagerFixture()
    created = runs.created(runs.graph("a"), owner=Owner("", uid="u", attempt=1))
    async with fixture.manager(script=never_returns) as (first, _):
        await with_timeout(first.start(created))
        script = lambda task: raised("a", environment="inputs")  # noqa: E731
        async with fixture.manager("m2", script=script) as (second, _):
            await with_timeout(second.claim(ClaimRequest("w", 1, "u", 2)))
            with pytest.raises(InvalidInputError, match="cannot be executed on this cluster"):
                await with_timeout(second.wait(fixture.address(created)))
            await eventually(lambda: status(fixture) is WorkflowStatus.RESUMABLE)
        async with fixture.manager("m3") as (third, _):
            await with_timeout(third.claim(ClaimRequest("w", 1, "u", 3)))
            result = await with_timeout(third.wait(fixture.address(created)))
    assert result.status is WorkflowStatus.SUCCESSFUL


def status(fixture: ManagerFixture) -> WorkflowStatus:
    view = read_run(fixture.inner, "w")
    assert view is not None
    return view.status
