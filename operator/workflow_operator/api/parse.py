"""Parses the JSON of a Workflow into values, and explains which fields of an invalid spec to change.

The adapter that reads Workflow objects calls it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from workflow_operator.api.spec import WorkflowSpec
from workflow_operator.api.status import WorkflowState


def parse_spec(spec: Mapping[str, Any]) -> tuple[WorkflowSpec | None, str]:
    """Parse a spec.

    Args:
        spec: the field `spec` of the object, as JSON.

    Returns:
        The spec and an empty string; or None and the corrections to make, one clause for each invalid field.
    """
    try:
        return WorkflowSpec.model_validate(spec), ""
    except ValidationError as error:
        clauses = [f"{_path(item['loc'])}: {_correction(item)}" for item in error.errors(include_url=False)]
        return None, "; ".join(clauses)


def parse_status(status: Mapping[str, Any]) -> WorkflowState:
    """Parse a status; an unreadable one is treated as absent, because cluster and log contain what it stated."""
    try:
        return WorkflowState.model_validate(status)
    except ValidationError:
        return WorkflowState()


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(("spec", *map(str, location)))


def _correction(item: Any) -> str:
    return str(item["msg"]).removeprefix("Value error, ")
