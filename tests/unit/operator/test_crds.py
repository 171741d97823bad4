"""The CRD equals the models, and contains only what the API server accepts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from workflow_operator.api import crds
from workflow_operator.api.rules import RULES

ROOT = Path(__file__).parents[3]
SCHEMA = crds.workflow_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
REFUSED_BY_KUBERNETES = {"$ref", "$defs", "anyOf", "allOf", "const", "title", "propertyNames", "prefixItems"}


def fields(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}.{name}", inner
        yield from fields(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), Mapping):
            yield f"{path}[]", schema[key]
            yield from fields(schema[key], f"{path}[]")


FIELDS = dict(fields(SCHEMA))


def test_crd_file_is_up_to_date() -> None:
    assert (ROOT / "crds" / crds.FILE).read_text(encoding="utf-8") == crds.render(), "run `make crds`"


def test_every_field_has_a_description() -> None:
    undescribed = [path for path, field in FIELDS.items() if not path.endswith("]") and not field.get("description")]
    assert undescribed == [".metadata"]


def test_schema_is_structural() -> None:
    for path, field in FIELDS.items():
        assert not REFUSED_BY_KUBERNETES & field.keys(), path
        assert "type" in field or field.get("x-kubernetes-preserve-unknown-fields"), path
        assert field.get("type") != "null", path
        assert not {"properties", "additionalProperties"} <= field.keys(), path


def test_status_has_no_defaults() -> None:
    assert [path for path, field in FIELDS.items() if path.startswith(".status") and "default" in field] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{'.'.join(rule.path) or 'root'}: {rule.message[:30]}")
def test_every_rule_is_in_the_schema_at_its_path(rule: Any) -> None:
    schema: Any = SCHEMA
    for name in rule.path:
        schema = schema["properties"][name]
    assert {"rule": rule.cel, "message": rule.message} in schema["x-kubernetes-validations"]


def test_writing_twice_produces_the_same_file(tmp_path: Path) -> None:
    first = crds.write(tmp_path).read_bytes()
    assert crds.write(tmp_path).read_bytes() == first
