"""Clocks that jump: no cluster is deleted, and no deadline is missed by the hours of the jump."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from tests.unit.operator.build import NOW, cluster, observation_of, read, state, view, workflow
from tests.unit.operator.cases import RESUMABLE, unreachable
from tests.unit.operator.clients import STEPS
from tests.unit.operator.model import OperatorModel
from workflow_operator.api.spec import Backoff
from workflow_operator.api.status import Phase
from workflow_operator.core.decide import decide
from workflow_operator.core.recorded_times import correct_times
from workflow_operator.core.server_clock import ServerClock

HOURS = 3 * 3600.0


@pytest.mark.parametrize("network_up", [True, False], ids=["heads reply", "heads do not reply"])
@pytest.mark.parametrize("jump", [HOURS, -HOURS, HOURS * 24, -HOURS * 24])
def test_running_workflow_survives_a_jump_of_the_clock(jump: float, network_up: bool) -> None:
    model = OperatorModel()
    model.advance(6)
    assert model.clients.state.phase is Phase.RUNNING
    model.clients.network_up = network_up
    for _ in range(5):
        model.round()
        model.clients.now += 10
    model.clients.now += jump
    for _ in range(5):
        model.round()
        model.clients.now += 10
    assert model.clients.state.phase is Phase.RUNNING
    assert model.clients.state.attempt == 1
    model.finish()
    run = model.newest()
    assert run is not None
    assert (run.committed, model.clients.state.phase) == (STEPS, Phase.SUCCEEDED)


@pytest.mark.parametrize(
    ("field", "recorded", "corrected"),
    [
        ("attempt_time", NOW + HOURS, NOW),
        ("phase_time", NOW + HOURS, NOW),
        ("blocked_since", NOW + HOURS, NOW),
        ("cancel_time", NOW + HOURS, NOW),
        ("start_time", NOW + HOURS, NOW),
        ("attempt_time", NOW + 61, NOW),
        ("attempt_time", NOW + 60, NOW + 60),
        ("attempt_time", NOW - HOURS, NOW - HOURS),
        ("attempt_time", None, None),
        ("next_attempt_time", NOW + HOURS, NOW + 120),
        ("next_attempt_time", NOW + 120, NOW + 120),
        ("next_attempt_time", None, None),
    ],
)
def test_time_in_the_future_is_corrected(field: str, recorded: float | None, corrected: float | None) -> None:
    before = state(Phase.RUNNING).model_copy(update={field: recorded})
    after = correct_times(before, Backoff(), NOW)
    assert after == before.model_copy(update={field: corrected})


def test_deadline_is_not_missed_after_the_clock_was_set_back() -> None:
    starting = cluster(head=None)
    recorded = unreachable(0).model_copy(update={"head": None})
    obj = workflow(state(Phase.PROVISIONING, cluster=recorded, attempt_time=NOW + HOURS, phase_time=NOW + HOURS))
    first = decide(observation_of(obj, named=starting, clusters=(starting,)), NOW)
    assert first.state.attempt_time == NOW
    again = observation_of(workflow(first.state), named=starting, clusters=(starting,))
    assert decide(again, NOW + 1799).state.phase is Phase.PROVISIONING
    assert decide(again, NOW + 1800).state.phase is Phase.RESUMABLE


def test_attempt_is_not_delayed_after_the_clock_was_set_back() -> None:
    obj = workflow(state(Phase.RESUMABLE, next_attempt_time=NOW + HOURS, epoch=1))
    waiting = decide(observation_of(obj, run=read(view(), RESUMABLE)), NOW)
    assert waiting.state.phase is Phase.RESUMABLE
    resumed = observation_of(workflow(waiting.state), run=read(view(), RESUMABLE))
    assert decide(resumed, NOW + 120).state.phase is Phase.PROVISIONING


# --- the clock of the API server ---


class Machine:
    """The clocks of a machine, and the API server's clock at the same moment."""

    wall = NOW
    monotonic = 50.0

    def clock(self) -> ServerClock:
        return ServerClock(lambda: self.wall, lambda: self.monotonic)

    def pass_time(self, seconds: float) -> None:
        self.wall, self.monotonic = self.wall + seconds, self.monotonic + seconds


def date(seconds: float) -> str:
    return formatdate(seconds, usegmt=True)


@pytest.mark.parametrize("wrong_by", [-HOURS, HOURS])
def test_clock_follows_the_api_server(wrong_by: float) -> None:
    machine = Machine()
    machine.wall = NOW + wrong_by
    clock = machine.clock()
    assert clock.now() == NOW + wrong_by
    sent = clock.started()
    machine.pass_time(0.2)
    clock.follow(date(NOW), sent)
    assert NOW <= clock.now() <= NOW + 1.2
    machine.pass_time(7)
    assert NOW + 7 <= clock.now() <= NOW + 8.2


def test_jump_of_the_machine_clock_has_no_effect() -> None:
    machine = Machine()
    clock = machine.clock()
    clock.follow(date(NOW), clock.started())
    before = clock.now()
    machine.wall += HOURS
    assert clock.now() == before
    machine.pass_time(5)
    assert clock.now() == before + 5


def test_small_differences_do_not_move_the_clock() -> None:
    machine = Machine()
    clock = machine.clock()
    for _ in range(100):
        machine.pass_time(0.37)
        clock.follow(date(int(machine.wall)), clock.started())
        assert clock.now() == pytest.approx(machine.wall)


@pytest.mark.parametrize("text", [None, "", "yesterday"])
def test_reply_without_a_date_changes_nothing(text: str | None) -> None:
    machine = Machine()
    clock = machine.clock()
    clock.follow(text, clock.started())
    assert clock.now() == NOW
