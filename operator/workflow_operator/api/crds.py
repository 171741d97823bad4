"""The CustomResourceDefinition, made from the models: `python -m workflow_operator.api.crds [folder]` writes it.

pydantic's JSON schema says more than the API server takes: references, `anyOf` with null, titles. What is left after
this module is a structural schema. A test keeps `crds/` equal to what is made here.
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
    ("Phase", "string", ".status.phase", 0, "Where it stands"),
    ("Steps", "string", ".status.steps.summary", 0, "Succeeded steps of all known so far"),
    ("Cluster", "string", ".status.cluster.name", 0, "RayCluster of this attempt"),
    ("Resumes", "integer", ".status.resumes.total", 0, "How often the run was continued"),
    ("Epoch", "integer", ".status.epoch", 1, "Ownership of the run that commits now"),
    ("Age", "date", ".metadata.creationTimestamp", 0, "Time since it was made"),
)


def workflow_crd() -> dict[str, Any]:
    """The CRD of Workflow as JSON."""
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
                    "schema": {"openAPIV3Schema": _root()},
                }
            ],
        },
    }


def structural(schema: Mapping[str, Any]) -> dict[str, Any]:
    """pydantic's JSON schema as the API server takes it.

    Args:
        schema: of one model, with its definitions.
    """
    return _plain(schema, schema.get("$defs", {}))


def write(folder: Path) -> Path:
    """Write the CRD into a folder.

    Returns:
        The file.
    """
    path = folder / FILE
    path.write_text(render(), encoding="utf-8")
    return path


def render() -> str:
    """The CRD as YAML."""
    head = "# Made from the models in operator/workflow_operator/api: `make crds`.\n"
    unshared = json.loads(json.dumps(workflow_crd()))  # or YAML would write anchors where two places share a list
    return head + yaml.safe_dump(unshared, sort_keys=False, width=120, allow_unicode=True)


def _root() -> dict[str, Any]:
    root: dict[str, Any] = {
        "type": "object",
        "description": "One durable run of a Python entrypoint on Ray.",
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
    place = root
    for name in rule.path:
        place = place["properties"][name]
    place.setdefault("x-kubernetes-validations", []).append({"rule": rule.cel, "message": rule.message})


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
    """The schema with its reference replaced; what stands beside the reference, such as a description, wins."""
    beside = dict(schema)
    reference = beside.pop("$ref", None)
    if reference is None:
        return beside
    return {**_resolved(definitions[str(reference).rpartition("/")[2]], definitions), **beside}


def _without_null(schema: dict[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """An optional field as the API server knows it: it may be absent, but it is never null."""
    choices = schema.pop("anyOf", None)
    if choices is None:
        return schema
    (only,) = [choice for choice in choices if choice.get("type") != "null"]
    return {**_resolved(only, definitions), **schema}


def _without_defaults(schema: dict[str, Any]) -> dict[str, Any]:
    """Status holds what the operator wrote, and nothing that the API server adds."""
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
