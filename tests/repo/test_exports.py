"""The public names are pinned by a list. Without Ray, the error names the package to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import workflow

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = [
    "EventListener",
    "Workflow",
    "WorkflowExecutionError",
    "WorkflowStatus",
    "cancel",
    "continuation",
    "create",
    "delete",
    "get_metadata",
    "get_output",
    "get_status",
    "init",
    "list_all",
    "resume",
    "resume_all",
    "run",
    "run_async",
    "sleep",
    "step",
    "wait",
    "wait_for_event",
]
WITHOUT_RAY = (
    "import sys; sys.modules['ray'] = None; import workflow, workflow.reading, workflow.requests, workflow.view; "
)


def test_public_names_are_pinned() -> None:
    assert workflow.__all__ == PUBLIC
    assert sorted(workflow.__all__) == workflow.__all__
    assert dir(workflow) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(workflow, name) is not None


def test_statuses_are_attributes_as_in_ray() -> None:
    for status in workflow.WorkflowStatus:
        assert getattr(workflow, status.value) is status


def without_ray(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_RAY + code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_readers_work_without_ray() -> None:
    done = without_ray("print(workflow.WorkflowStatus.RUNNING)")
    assert (done.returncode, done.stdout) == (0, "RUNNING\n"), done.stderr


def test_error_without_ray_names_the_package_to_install() -> None:
    done = without_ray("workflow.step")
    assert "workflow.step needs Ray, which is not installed here; run: pip install 'rayworkflow[ray]'" in done.stderr


def test_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"'steps_' \(did you mean 'step'\?\); it has EventListener, Workflow, "):
        workflow.steps_  # noqa: B018
