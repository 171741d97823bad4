"""Code that catches the errors of Ray 1.12 catches those of this library."""

from __future__ import annotations

import pickle

import pytest

import workflow
from workflow import common, errors


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        pytest.param(errors.InvalidInputError, ValueError, id="an invalid option or address"),
        pytest.param(errors.WrongTypeError, TypeError, id="an argument of another type"),
        pytest.param(errors.WorkflowNotFoundError, ValueError, id="an unknown workflow or step"),
        pytest.param(errors.WorkflowNotResumableError, ValueError, id="resume of a canceled workflow"),
        pytest.param(errors.OwnerLostError, ValueError, id="output of a resumable workflow"),
        pytest.param(errors.WorkflowInUseError, RuntimeError, id="resume of a running workflow"),
    ],
)
def test_error_is_of_the_class_that_ray_raises(kind: type[errors.WorkflowError], base: type[Exception]) -> None:
    with pytest.raises(base, match="why"):
        raise kind("why", workflow_id="w")


def test_error_has_a_message_also_after_pickling() -> None:
    error = pickle.loads(pickle.dumps(errors.WorkflowNotFoundError("why", workflow_id="w")))
    assert (error.message, error.workflow_id) == ("why", "w")


def test_names_are_in_the_modules_of_ray() -> None:
    assert workflow.recovery.WorkflowNotResumableError is errors.WorkflowNotResumableError
    assert common.Workflow.__name__ == "Workflow"
    assert common.Event is not None
    with pytest.raises(AttributeError, match=r"'workflow\.common' has no attribute 'Nothing'; it has Event, Workflow"):
        common.Nothing  # noqa: B018
