"""The pre-commit hooks, the CI workflow and the templates: they parse, and what they name exists."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev import versions
from dev.checks import CHECKS

ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / ".github"
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))


def hooks() -> dict[str, dict[str, Any]]:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local", "hooks of other repositories need the network"
    return {hook["id"]: hook for hook in repository["hooks"]}


PROGRAMS = [hook for hook in hooks().values() if hook["language"] == "system"]


def command(hook: dict[str, Any]) -> list[str]:
    """Return the command of a hook, without the environment that it sets."""
    words = shlex.split(hook["entry"])
    return words[2:] if words[0] == "env" else words


def steps() -> list[dict[str, Any]]:
    (job,) = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text())["jobs"].values()
    return list(job["steps"])


def action(name: str) -> dict[str, Any]:
    (step,) = [step for step in steps() if str(step.get("uses", "")).startswith(f"actions/{name}@")]
    return dict(step["with"])


def test_pre_commit_accepts_the_configuration() -> None:
    checked = [sys.executable, "-m", "pre_commit", "validate-config", str(ROOT / ".pre-commit-config.yaml")]
    done = subprocess.run(checked, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("hook", PROGRAMS, ids=lambda hook: hook["id"])
def test_the_program_and_the_paths_of_a_hook_exist(hook: dict[str, Any]) -> None:
    program, *arguments = command(hook)
    if program.startswith(".venv/bin/"):
        assert Path(sys.executable).with_name(program.removeprefix(".venv/bin/")).exists()
    else:
        assert shutil.which(program)
    assert [each for each in arguments if "/" in each and not (ROOT / each).exists()] == []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_every_check_has_a_hook_with_its_command(check: Any) -> None:
    program, *arguments = check.command
    assert [f".venv/bin/{program}", *arguments] in [command(hook) for hook in PROGRAMS]


@pytest.mark.parametrize(
    ("message", "accepted"),
    [
        ("Add a hook\n", True),
        ("x" * 72 + "\n\nThe reasons, on a line that may be as long as it likes: " + "y" * 100 + "\n", True),
        ("x" * 73 + "\n", False),
        ("\nx\n", False),
    ],
    ids=["short", "72", "73", "empty"],
)
def test_the_commit_hook_limits_the_subject(message: str, accepted: bool, tmp_path: Path) -> None:
    hook, file = hooks()["commit-subject"], tmp_path / "message"
    file.write_text(message)
    module = [sys.executable, "-m", "pre_commit.languages.pygrep", *hook["args"], hook["entry"], str(file)]
    assert (subprocess.run(module, capture_output=True, check=False).returncode == 0) is accepted


def test_ci_calls_the_script_that_everyone_can_run() -> None:
    assert [step["run"] for step in steps() if "run" in step] == [".ci/run"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_ci_has_the_go_and_python_that_the_project_needs() -> None:
    assert tuple(map(int, action("setup-go")["go-version"].split("."))) >= versions.GO_AT_LEAST
    assert tuple(map(int, action("setup-python")["python-version"].split("."))) >= versions.PYTHON_AT_LEAST


def test_the_cache_of_ci_depends_on_files_that_exist() -> None:
    patterns = re.findall(r"'([^']+)'", action("cache")["key"])
    assert patterns
    assert [each for each in patterns if not list(ROOT.glob(each))] == []


@pytest.mark.parametrize("form", FORMS, ids=lambda form: str(form.stem))
def test_an_issue_form_asks_for_what_is_needed(form: Path) -> None:
    parsed = yaml.safe_load(form.read_text())
    assert {"name", "description", "body"} <= parsed.keys()
    asked = [each for each in parsed["body"] if each["type"] != "markdown"]
    assert len({each["id"] for each in asked}) == len(asked)
    assert any(each["validations"]["required"] for each in asked if "validations" in each)


def test_paths_that_the_templates_name_exist() -> None:
    path = re.compile(r"[\w./-]+\.md\b|(?<=`)[\w./-]+/(?=`)")
    named = {found for file in GITHUB.rglob("*.*") for found in path.findall(file.read_text())}
    assert {"SECURITY.md", "changes/"} <= named
    assert [name for name in named if not (ROOT / name).exists()] == []
