"""The notes of the chart: their commands are complete, with the values of the installation."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from dev import binaries

CHART = Path(__file__).resolve().parents[2] / "charts" / "rayworkflow"
AS_TEMPLATE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: notes}
data:
  notes: {{ include "notes" . | quote }}
"""


def notes(folder: Path, values: dict[str, str]) -> str:
    """Render the notes, which Helm itself shows only after an installation."""
    chart = folder / "chart"
    shutil.copytree(CHART, chart)
    text = (chart / "templates" / "NOTES.txt").read_text()
    (chart / "templates" / "notes.yaml").write_text(f'{{{{ define "notes" }}}}{text}{{{{ end }}}}{AS_TEMPLATE}')
    options = [option for key, value in values.items() for option in ("--set", f"{key}={value}")]
    command: list[str | Path] = [
        binaries.ensure("helm"),
        "template",
        "rayworkflow",
        chart,
        "-n",
        "system",
        "--kube-version",
        "1.34",
    ]
    done = subprocess.run(
        [*command, "-s", "templates/notes.yaml", *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return str(yaml.safe_load(done.stdout)["data"]["notes"])


def commands(text: str) -> list[str]:
    """Return the indented commands, and check that a shell can parse them."""
    blocks = [block for block in text.split("\n\n") if block.startswith("  ")]
    for block in blocks:
        parsed = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert parsed.returncode == 0, f"{block}\n{parsed.stderr}"
    return blocks


MINIO = {"minio.enabled": "true"}


def test_commands_for_minio_are_complete(tmp_path: Path) -> None:
    secret, bucket, example = commands(notes(tmp_path, MINIO))
    assert secret.startswith("  kubectl -n default create secret generic rayworkflow-storage \\\n")
    assert secret.count("get secret rayworkflow-minio -o go-template=") == 2
    assert "kubectl -n system exec -i deployment/rayworkflow -- python -c" in bucket
    assert 'endpoint="rayworkflow-minio.system.svc:9000"' in bucket
    assert example.startswith("  kubectl apply -k examples/trip")


def test_program_that_creates_the_bucket_is_valid(tmp_path: Path) -> None:
    words = shlex.split(commands(notes(tmp_path, MINIO))[1])
    program = words[words.index("-c") + 1]
    compile(program, "notes", "exec")
    assert 'make_bucket(bucket_name="workflows")' in program


def test_each_watched_namespace_gets_its_secret(tmp_path: Path) -> None:
    found = commands(notes(tmp_path, {**MINIO, "watchNamespaces": "{team-a,team-b}"}))
    assert [each.split()[2] for each in found[:2]] == ["team-a", "team-b"]


@pytest.mark.parametrize(
    ("values", "command"),
    [
        ({}, "aws s3 mb s3://mine"),
        ({"storage.region": "eu-west-1"}, "aws s3 mb s3://mine --region eu-west-1"),
        ({"storage.endpoint": "http://s3:9000"}, "aws s3 mb s3://mine --endpoint-url http://s3:9000"),
    ],
    ids=["aws", "region", "endpoint"],
)
def test_bucket_of_the_user_has_a_command(tmp_path: Path, values: dict[str, str], command: str) -> None:
    found = commands(notes(tmp_path, {"storage.uri": "s3://mine/prefix", **values}))
    assert command in [each.strip() for each in found]
    assert '--from-literal=AWS_ACCESS_KEY_ID="$AWS_ACCESS_KEY_ID"' in found[0]


def test_without_storage_there_is_no_bucket_to_create(tmp_path: Path) -> None:
    assert "bucket" not in notes(tmp_path, {})
