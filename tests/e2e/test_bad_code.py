"""Code that cannot run or raises: the Workflow fails soon, and its condition explains what to change."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tests.e2e.namespace import FLOWS, WorkflowNamespace
from workflow_operator.api.status import Phase


@dataclass(frozen=True)
class BadCode:
    """A Workflow that fails.

    Attributes:
        name: the name of the Workflow.
        entrypoint: its `spec.entrypoint`.
        reason: the expected reason of the condition.
        messages: texts that the message of the condition must contain.
        files: its code; if empty, the code of the other tests.
    """

    name: str
    entrypoint: str
    reason: str
    messages: tuple[str, ...]
    files: dict[str, str] = field(default_factory=dict)


CASES = (
    BadCode(
        "missing-module",
        "nowhere:line",
        "EntrypointInvalid",
        ("spec.entrypoint 'nowhere:line'", "there is no module 'nowhere'", "a key nowhere.py of the ConfigMap"),
    ),
    BadCode(
        "missing-attribute",
        "flows:lime",
        "EntrypointInvalid",
        ("'flows' has no 'lime'", "it has:", "line", "Name one of these"),
    ),
    BadCode(
        "syntax-error",
        "broken:line",
        "EntrypointInvalid",
        ("syntax error in broken.py, line 2", "def line(:"),
        {"broken.py": "from workflow import step\ndef line(:\n    pass\n"},
    ),
    BadCode(
        "missing-package",
        "needy:line",
        "EntrypointInvalid",
        ("needs the module 'not_in_this_image'", "add it to spec.runtimeEnv.pip, or to the image"),
        {"needy.py": "import not_in_this_image\n"},
    ),
    BadCode(
        "misfit-args",
        "flows:needs_a_city",
        "EntrypointInvalid",
        (
            "spec.args ['marks_url'] do not fit",
            "flows:needs_a_city(marks_url, city)",
            "missing a required argument: 'city'",
        ),
    ),
    BadCode(
        "failing-step",
        "flows:half_done",
        "StepFailed",
        ("step fails: KeyError: 'SAN'", "flows.py", 'return f"charged {prices[city]}"'),
    ),
)


@pytest.fixture(scope="module")
def namespace(shared: WorkflowNamespace) -> WorkflowNamespace:
    for case in CASES:
        shared.code(f"code-of-{case.name}", case.files or {"flows.py": FLOWS})
        shared.create(
            case.name,
            case.entrypoint,
            f"code-of-{case.name}",
            cluster={"selector": {"matchLabels": {"team": "e2e"}}},
        )
    return shared


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_code_fails_with_an_explanation(namespace: WorkflowNamespace, case: BadCode) -> None:
    failed = namespace.until_phase(case.name, Phase.FAILED, timeout=120)
    condition = failed.state.condition("Failed")
    assert condition is not None
    assert condition.reason == case.reason
    for text in case.messages:
        assert text in condition.message
    assert failed.state.attempt == 1, "another attempt cannot succeed"
    namespace.until_event(case.name, case.reason)
