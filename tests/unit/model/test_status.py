"""The names in stored logs and in messages to users never change; nor does the table of transitions."""

from __future__ import annotations

import pytest

from workflow.model.status import TERMINAL, TRANSITIONS, UNCLAIMABLE, StepPhase, WorkflowStatus

STATUSES = ("RUNNING", "RESUMABLE", "SUCCESSFUL", "FAILED", "CANCELED")
PHASES = ("WAITING", "READY", "RUNNING", "SLEEPING", "EXPANDED", "COMMITTED", "FAILED", "CANCELED")


@pytest.mark.parametrize(("enum", "names"), [(WorkflowStatus, STATUSES), (StepPhase, PHASES)])
def test_names_of_states_are_those_in_stored_logs(enum: type[WorkflowStatus | StepPhase], names: tuple[str]) -> None:
    assert tuple(enum) == tuple(map(enum, names))
    for name in names:
        assert (enum(name).name, enum(name).value, str(enum(name)), f"{enum(name)}") == (name,) * 4


def test_finished_runs_are_the_terminal_ones() -> None:
    assert {status.value for status in WorkflowStatus if status.is_terminal} == {"SUCCESSFUL", "FAILED", "CANCELED"}
    assert {status.value for status in TERMINAL - UNCLAIMABLE} == {"FAILED"}
    assert UNCLAIMABLE < TERMINAL


def test_transitions_of_a_run_are_complete() -> None:
    assert sorted((str(status), event, str(following)) for (status, event), following in TRANSITIONS.items()) == [
        ("FAILED", "retried", "RUNNING"),
        ("RESUMABLE", "claimed", "RUNNING"),
        ("RUNNING", "canceled", "CANCELED"),
        ("RUNNING", "claimed", "RUNNING"),
        ("RUNNING", "failed", "FAILED"),
        ("RUNNING", "owner_lost", "RESUMABLE"),
        ("RUNNING", "released", "RESUMABLE"),
        ("RUNNING", "succeeded", "SUCCESSFUL"),
    ]
