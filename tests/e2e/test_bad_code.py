"""Code that cannot run, or that raises: the Workflow fails soon, and its condition says what to change."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tests.e2e.place import FLOWS, Place
from workflow_operator.api.status import Phase


@dataclass(frozen=True)
class Bad:
    """A Workflow that fails.

    Attributes:
        name: its name.
        entrypoint: what it names.
        reason: the condition's reason.
        says: what stands in the condition's message.
        files: its code; else that of the other tests.
    """

    name: str
    entrypoint: str
    reason: str
    says: tuple[str, ...]
    files: dict[str, str] = field(default_factory=dict)


CASES = (
    Bad(
        "missing-module",
        "nowhere:line",
        "EntrypointInvalid",
        ("spec.entrypoint 'nowhere:line'", "there is no module 'nowhere'", "a key nowhere.py of the ConfigMap"),
    ),
    Bad(
        "missing-attribute",
        "flows:lime",
        "EntrypointInvalid",
        ("'flows' has no 'lime'", "it has:", "line", "Name one of these"),
    ),
    Bad(
        "syntax-error",
        "broken:line",
        "EntrypointInvalid",
        ("syntax error in broken.py, line 2", "def line(:"),
        {"broken.py": "from workflow import step\ndef line(:\n    pass\n"},
    ),
    Bad(
        "missing-package",
        "needy:line",
        "EntrypointInvalid",
        ("needs the module 'not_in_this_image'", "add it to spec.runtimeEnv.pip, or to the image"),
        {"needy.py": "import not_in_this_image\n"},
    ),
    Bad(
        "misfit-args",
        "flows:needs_a_city",
        "EntrypointInvalid",
        ("spec.args ['place'] do not fit", "flows:needs_a_city(place, city)", "missing a required argument: 'city'"),
    ),
    Bad(
        "failing-step",
        "flows:half_done",
        "StepFailed",
        ("step fails: KeyError: 'SAN'", "flows.py", 'return f"paid {prices[city]}"'),
    ),
)


@pytest.fixture(scope="module")
def place(shared: Place) -> Place:
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
def test_what_cannot_run_fails_and_says_what_to_change(place: Place, case: Bad) -> None:
    failed = place.until_phase(case.name, Phase.FAILED, timeout=120)
    condition = failed.state.condition("Failed")
    assert condition is not None
    assert condition.reason == case.reason
    for words in case.says:
        assert words in condition.message
    assert failed.state.attempt == 1, "no later attempt could do better"
    place.until_event(case.name, case.reason)
