"""The public names: a list under test, so that none comes or goes by accident; and without Ray, what to install."""

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
    "delete",
    "get_metadata",
    "get_output",
    "get_output_async",
    "get_status",
    "init",
    "list_all",
    "resume",
    "resume_all",
    "resume_async",
    "run",
    "run_async",
    "sleep",
    "step",
    "wait_for_event",
]
WITHOUT_RAY = (
    "import sys; sys.modules['ray'] = None; import workflow, workflow.reading, workflow.requests, workflow.view; "
)


def test_the_public_names_are_these() -> None:
    assert workflow.__all__ == PUBLIC
    assert sorted(workflow.__all__) == workflow.__all__
    assert dir(workflow) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_each_is_there(name: str) -> None:
    assert getattr(workflow, name) is not None


def test_statuses_are_found_as_in_ray_too() -> None:
    for status in workflow.WorkflowStatus:
        assert getattr(workflow, status.value) is status


def without_ray(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_RAY + code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_reader_needs_no_ray() -> None:
    done = without_ray("print(workflow.WorkflowStatus.RUNNING)")
    assert (done.returncode, done.stdout) == (0, "RUNNING\n"), done.stderr


def test_what_needs_ray_says_what_to_install() -> None:
    done = without_ray("workflow.step")
    assert "workflow.step needs Ray, which is not installed here; run: pip install 'rayworkflow[ray]'" in done.stderr


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'steps_'; it has EventListener, Workflow, "):
        workflow.steps_  # noqa: B018
