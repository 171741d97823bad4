"""Generates the CustomResourceDefinition: `python -m workflow_operator.api.crds [folder]` writes the file.

The JSON schema of pydantic contains references, `anyOf` with null, and titles, which the API server does not accept.
This module converts it to a structural schema. A test compares `crds/` with the output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from workflow_operator.api import API_VERSION, GROUP, KIND, PLURAL, VERSION
from workflow_operator.api.rules import RULES, Rule
from workflow_operator.api.spec import WorkflowSpec
from workflow_operator.api.status import WorkflowState

FILE = f"{GROUP}_{PLURAL}.yaml"
_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_DROPPED = frozenset({"title", "$defs", "propertyNames"})
_COLUMNS = (
    ("Phase", "string", ".status.phase", 0, "Phase of the Workflow"),
    ("Reason", "string", ".status.reason", 0, "Why the Workflow is in its phase, for example why it waits or failed"),
    ("Steps", "string", ".status.steps.summary", 0, "Succeeded steps and known steps, for example 7/12"),
    ("Cluster", "string", ".status.cluster.name", 0, "RayCluster of the current submission attempt"),
    ("Resumes", "integer", ".status.resumes.total", 0, "Number of attempts that followed a failure"),
    ("Epoch", "integer", ".status.epoch", 1, "Current epoch of the run"),
    ("Age", "date", ".metadata.creationTimestamp", 0, "Time since the Workflow was created"),
)


def workflow_crd() -> dict[str, Any]:
    """Build the CRD of Workflow as JSON."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}", "labels": {"app.kubernetes.io/name": "rayworkflow"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": "workflow",
                "shortNames": ["rwf"],
                "categories": ["all", "rayworkflow"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*column) for column in _COLUMNS],
                    "schema": {"openAPIV3Schema": workflow_schema()},
                }
            ],
        },
    }


def structural(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a JSON schema from pydantic to a structural schema.

    Args:
        schema: the schema of one model, with its definitions.
    """
    return _plain(schema, schema.get("$defs", {}))


def write(folder: Path) -> Path:
    """Write the CRD into a folder.

    Returns:
        The path of the written file.
    """
    path = folder / FILE
    path.write_text(render(), encoding="utf-8")
    return path


def render() -> str:
    """Format the CRD as YAML."""
    head = "# Generated from the models in operator/workflow_operator/api: `make crds`.\n"
    unshared = json.loads(json.dumps(workflow_crd()))  # without this copy, YAML writes anchors for shared lists
    return head + yaml.safe_dump(unshared, sort_keys=False, width=120, allow_unicode=True)


def workflow_schema() -> dict[str, Any]:
    """Build the schema of Workflow in the CRD."""
    root: dict[str, Any] = {
        "type": "object",
        "description": "One durable run of a Python entrypoint on a Ray cluster.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"Version of this schema: {API_VERSION}."},
            "kind": {"type": "string", "description": f"Kind of the object: {KIND}."},
            "metadata": {"type": "object"},
            "spec": structural(WorkflowSpec.model_json_schema(by_alias=True)),
            "status": _without_defaults(structural(WorkflowState.model_json_schema(by_alias=True))),
        },
    }
    for rule in RULES:
        _attach(root, rule)
    return root


def _attach(root: dict[str, Any], rule: Rule) -> None:
    field = root
    for name in rule.path:
        field = field["properties"][name]
    field.setdefault("x-kubernetes-validations", []).append({"rule": rule.cel, "message": rule.message})


def _plain(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    merged = _without_null(_resolved(schema, definitions), definitions)
    plain: dict[str, Any] = {}
    for key, value in merged.items():
        if key in _DROPPED or (key == "default" and value is None):
            continue
        if key == "properties":
            plain[key] = {name: _plain(inner, definitions) for name, inner in value.items()}
        elif key == "items" or (key == "additionalProperties" and isinstance(value, Mapping)):
            plain[key] = _plain(value, definitions)
        elif key == "additionalProperties":
            plain[_PRESERVE] = True
        else:
            plain[key] = value
    if "description" in plain:
        plain["description"] = " ".join(str(plain["description"]).split())
    return plain


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the reference by its definition; keys next to the reference, such as a description, take precedence."""
    siblings = dict(schema)
    reference = siblings.pop("$ref", None)
    if reference is None:
        return siblings
    return {**_resolved(definitions[str(reference).rpartition("/")[2]], definitions), **siblings}


def _without_null(schema: dict[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Remove null from the types of an optional field: in Kubernetes it may be absent, but not null."""
    choices = schema.pop("anyOf", None)
    if choices is None:
        return schema
    (only,) = [choice for choice in choices if choice.get("type") != "null"]
    return {**_resolved(only, definitions), **schema}


def _without_defaults(schema: dict[str, Any]) -> dict[str, Any]:
    """Remove the defaults of status fields, so that the API server adds nothing to what the operator wrote."""
    kept = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in kept:
        kept["properties"] = {name: _without_defaults(inner) for name, inner in kept["properties"].items()}
    if isinstance(kept.get("items"), dict):
        kept["items"] = _without_defaults(kept["items"])
    return kept


def _column(name: str, kind: str, path: str, priority: int, description: str) -> dict[str, Any]:
    column = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return {**column, "priority": priority} if priority else column


if __name__ == "__main__":
    print(write(Path(sys.argv[1] if len(sys.argv) > 1 else "crds")))
