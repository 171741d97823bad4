"""From the JSON of a Workflow to values, and a refusal in words where its spec cannot be read.

Called by the adapter that reads Workflows; stands in `api` because only here the models are known by their fields'
names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from workflow_operator.api.spec import WorkflowSpec
from workflow_operator.api.status import WorkflowState


def parse_spec(spec: Mapping[str, Any]) -> tuple[WorkflowSpec | None, str]:
    """The spec as a value.

    Args:
        spec: `spec` of the object, as JSON.

    Returns:
        The spec and an empty text, or None and what to change, one clause for each field.
    """
    try:
        return WorkflowSpec.model_validate(spec), ""
    except ValidationError as error:
        clauses = [f"{_path(item['loc'])}: {_words(item)}" for item in error.errors(include_url=False)]
        return None, "; ".join(clauses)


def parse_status(status: Mapping[str, Any]) -> WorkflowState:
    """The status as a value; one that cannot be read counts as absent, because it is made anew from cluster and log."""
    try:
        return WorkflowState.model_validate(status)
    except ValidationError:
        return WorkflowState()


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(("spec", *map(str, location)))


def _words(item: Any) -> str:
    text = str(item["msg"])
    return text.removeprefix("Value error, ")
