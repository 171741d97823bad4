"""The snippets of the documentation run, and the API server would accept the manifests that users copy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.support.drivers import cluster
from workflow_operator.api.parse import parse_spec

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ["README.md", "examples/trip/workflow.yaml"]


def fenced(page: str, language: str) -> str:
    (block,) = re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    return str(block)


def manifest(name: str) -> str:
    return fenced(name, "yaml") if name.endswith(".md") else (ROOT / name).read_text()


def schema() -> dict[str, Any]:
    """Return the schema of the CRD as JSON schema. It rejects fields that the API server would prune."""
    crd = yaml.safe_load((ROOT / "crds" / "rayworkflow.dev_workflows.yaml").read_text())
    (version,) = crd["spec"]["versions"]
    return closed(version["schema"]["openAPIV3Schema"])


def closed(given: dict[str, Any]) -> dict[str, Any]:
    made = dict(given)
    if "properties" in made:
        made["properties"] = {key: closed(value) for key, value in made["properties"].items()}
        if not made.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    if isinstance(made.get("items"), dict):
        made["items"] = closed(made["items"])
    return made


def test_readme_snippet_runs_and_a_second_run_reads_the_result(tmp_path: Path) -> None:
    code = fenced("README.md", "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    script = tmp_path / "bill.py"
    script.write_text(code)
    environment = {**os.environ, "RAYWORKFLOW_STORAGE": str(tmp_path / "store"), "PYTHONPATH": str(ROOT)}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "110"


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    """A Ray for the scripts that do not show how to start one."""
    with cluster() as (_, address):
        yield address


@pytest.mark.parametrize("page", ["docs/migration.md", "docs/steps.md", "docs/events.md"])
def test_snippets_of_a_page_run(page: str, tmp_path: Path, ray_address: str) -> None:
    script = tmp_path / "snippet.py"
    script.write_text("\n".join(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)))
    where = {"RAYWORKFLOW_STORAGE": str(tmp_path / "store"), "RAY_ADDRESS": ray_address, "RAY_AUTH_MODE": "disabled"}
    environment = {**os.environ, **where, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest_is_accepted_by_the_schema(name: str) -> None:
    written = yaml.safe_load(manifest(name))
    without_metadata = {**written, "metadata": {}}  # the API server checks metadata itself
    jsonschema.validate(without_metadata, schema())
    spec, refusal = parse_spec(written["spec"])
    assert spec is not None, refusal


@pytest.mark.parametrize(("name", "lines"), [("README.md", 15), ("examples/trip/workflow.yaml", 30)])
def test_manifest_is_short(name: str, lines: int) -> None:
    assert len(manifest(name).splitlines()) <= lines
