"""A head that does not reply: its cluster fails only if the log or Kubernetes confirms it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.operator.build import NOW, UID, cluster, head, job, read, running, spec, state, view, workflow
from tests.unit.operator.cases import OTHER, RECORDED, RESUMABLE, J, unreachable
from workflow_operator.api.status import ClusterStatus, Phase
from workflow_operator.core.actions import Decision, DeleteCluster
from workflow_operator.core.decide import decide
from workflow_operator.core.decide.reachability import continued
from workflow_operator.core.head_census import HeadsReport
from workflow_operator.core.log_view import Owner
from workflow_operator.core.observation import HeadRefused, HeadUnreachable, RunReadFailure, StoreFailure

REFUSED = HeadRefused("HeadRefusesToken", "HTTP 401")
NO_REPLY = HeadUnreachable("connection refused")
DOWN = RunReadFailure(StoreFailure.UNAVAILABLE, "no")
ALIVE, LOST = read(view()), read(view(), RESUMABLE)
NO_RUN = read()
EARLIER = read(view(owner=Owner("manager-0", "process-0", "manager-0", UID, 1)), RESUMABLE)
"""The log names a lost owner of the first attempt."""


def ask(
    cluster_: ClusterStatus | None = None,
    phase: Phase = Phase.RUNNING,
    attempt: int = 1,
    now: float = NOW,
    **changes: Any,
) -> Decision:
    """Return the decision of a round in which the head did not reply, unless `submission` is given."""
    recorded = (cluster_ or unreachable(60)).model_copy(update={"uid": f"cluster-{attempt}"})
    head_ = changes.pop("head", head())
    named = cluster(attempt, head=head_)
    recorded = recorded.model_copy(update={"name": named.name})
    obj = workflow(state(phase, attempt, cluster=recorded), **changes.pop("obj", {}))
    fields = {"named": named, "clusters": (named,), "submission": NO_REPLY, **changes}
    return decide(running(obj, **fields), now)


def is_deleted(decision: Decision) -> bool:
    deleted = any(isinstance(action, DeleteCluster) for action in decision.actions)
    assert deleted is (decision.state.phase is Phase.RESUMABLE)
    return deleted


UNREADY = head(ready=False)


@pytest.mark.parametrize(
    ("run", "pod", "attempt", "deleted", "message"),
    [
        pytest.param(ALIVE, head(), 1, False, "has not expired", id="owner alive"),
        pytest.param(ALIVE, UNREADY, 1, False, "has not expired", id="owner alive, pod not Ready"),
        pytest.param(LOST, head(), 1, True, "has expired", id="owner lost"),
        pytest.param(LOST, UNREADY, 1, True, "has expired", id="owner lost, pod not Ready"),
        pytest.param(DOWN, head(), 1, False, "the log cannot be read", id="log unread"),
        pytest.param(DOWN, UNREADY, 1, True, "not Ready", id="log unread, pod not Ready"),
        pytest.param(NO_RUN, head(), 1, False, "may still start", id="no run"),
        pytest.param(NO_RUN, UNREADY, 1, True, "not Ready", id="no run, pod not Ready"),
        pytest.param(EARLIER, head(), 2, False, "may still start", id="an earlier owner is lost"),
        pytest.param(EARLIER, UNREADY, 2, True, "not Ready", id="an earlier owner is lost, pod not Ready"),
        pytest.param(read(view(owner=OTHER)), head(), 1, False, "may still start", id="another owner"),
    ],
)
@pytest.mark.parametrize("phase", [Phase.PROVISIONING, Phase.RUNNING], ids=str)
def test_unreachable_head_needs_a_second_witness(
    run: Any, pod: Any, attempt: int, deleted: bool, message: str, phase: Phase
) -> None:
    found = ask(run=run, head=pod, attempt=attempt, phase=phase)
    assert is_deleted(found) is deleted
    reconciling = found.state.condition("Reconciling")
    assert reconciling is not None
    assert reconciling.reason == "HeadUnreachable"
    assert message in reconciling.message


def test_dashboard_frozen_for_hours_never_costs_the_cluster() -> None:
    recorded: ClusterStatus | None = unreachable(60)
    for number in range(1, 500):
        found = ask(recorded, now=NOW + 10 * number, head=UNREADY)
        assert not is_deleted(found)
        recorded = found.state.cluster
    assert recorded is not None
    assert recorded.unreachable_since == NOW - 60


@pytest.mark.parametrize(
    ("since", "asked", "deleted"),
    [(60, 5, True), (59, 5, False), (60, 30, True), (60, 31, False), (273, 70, False), (9999, 60, False)],
)
def test_pause_of_the_operator_is_not_counted(since: float, asked: float, deleted: bool) -> None:
    found = ask(unreachable(since, asked), run=LOST)
    assert is_deleted(found) is deleted
    if asked > 30:
        assert found.state.cluster is not None
        assert found.state.cluster.unreachable_since == NOW


def test_status_of_an_earlier_version_starts_the_count_again() -> None:
    old = RECORDED.model_copy(update={"unreachable_since": NOW - 500})
    assert not is_deleted(ask(old, run=LOST))


@pytest.mark.parametrize(
    "submission",
    [job(), job(J.PENDING), job(J.UNKNOWN), REFUSED, HeadRefused("HeadError", "HTTP 500"), None],
    ids=["running", "pending", "unknown", "refused", "error", "not asked"],
)
@pytest.mark.parametrize("run", [ALIVE, LOST, DOWN], ids=["alive", "lost", "unread"])
def test_only_a_missing_reply_in_this_round_counts(submission: Any, run: Any) -> None:
    found = ask(unreachable(500), submission=submission, run=run, head=UNREADY)
    assert not is_deleted(found)
    if submission is not None:
        assert found.state.cluster is not None
        assert found.state.cluster.unreachable_since is None
        assert found.state.cluster.unreachable_until is None


@pytest.mark.parametrize("seconds", [3 * 3600, -3 * 3600, 45, -2])
def test_clock_that_jumps_restarts_the_count(seconds: float) -> None:
    found = ask(unreachable(59, 1), run=LOST, now=NOW + seconds)
    assert not is_deleted(found)
    assert found.state.cluster is not None
    assert found.state.cluster.unreachable_since == found.state.cluster.unreachable_until == NOW + seconds


def test_count_is_refreshed_every_ten_seconds() -> None:
    first = continued(RECORDED, NOW)
    assert continued(first, NOW + 9.9) == first
    later = continued(first, NOW + 10)
    assert (later.unreachable_since, later.unreachable_until) == (NOW, NOW + 10)
    assert continued(later, NOW + 40).unreachable_since == NOW
    assert continued(later, NOW + 40.1).unreachable_since == NOW + 40.1


def test_head_without_an_owner_fails_after_the_deadline() -> None:
    """A head whose processes are frozen before they claimed the run may stay Ready without a readiness probe."""
    limit: dict[str, Any] = {"obj": {"spec": spec(preRunningDeadlineSeconds=300)}}
    assert not is_deleted(ask(unreachable(299), run=NO_RUN, **limit))
    found = ask(unreachable(300), run=NO_RUN, **limit)
    assert is_deleted(found)
    assert found.state.last_failure is not None
    assert "no owner has claimed the run within 300 s" in found.state.last_failure.message


@pytest.mark.parametrize(
    ("report", "deleted", "message"),
    [
        pytest.param(HeadsReport(1, 1, 61), True, "has expired", id="the only head"),
        pytest.param(HeadsReport(4, 2, 61), True, "has expired", id="two of four"),
        pytest.param(HeadsReport(7, 3, 61), True, "has expired", id="three of seven"),
        pytest.param(HeadsReport(6, 3, 61), False, "3 of 6 heads became unreachable", id="three of six"),
        pytest.param(HeadsReport(3, 3, 61), False, "3 of 3 heads", id="all"),
        pytest.param(HeadsReport(1, 1, 59), False, "started less than a minute ago", id="the operator just started"),
        pytest.param(HeadsReport(1, 1, 60), True, "has expired", id="the operator started a minute ago"),
        pytest.param(None, True, "has expired", id="not counted"),
    ],
)
def test_many_unreachable_heads_make_the_network_suspect(
    report: HeadsReport | None, deleted: bool, message: str
) -> None:
    found = ask(run=LOST, heads=report)
    assert is_deleted(found) is deleted
    reconciling = found.state.condition("Reconciling")
    assert reconciling is not None
    assert message in reconciling.message


@pytest.mark.parametrize(
    "reply",
    [NO_REPLY, HeadRefused("HeadRefusesToken", "HTTP 401"), HeadRefused("TokenUnreadable", "no Secret")],
    ids=str,
)
def test_attempt_that_the_log_shows_running_is_running(reply: Any) -> None:
    found = ask(RECORDED, phase=Phase.PROVISIONING, submission=reply, now=NOW + 99_999)
    assert found.state.phase is Phase.RUNNING
    assert not found.actions or not is_deleted(found)


def test_deadline_spares_a_run_that_continues_unseen() -> None:
    """The attempt attached to the manager of an earlier attempt, and the head no longer accepts the token."""
    attached = read(view(owner=Owner("manager-1", "process-1", "manager-1", UID, 1)))
    kept = ask(RECORDED, phase=Phase.PROVISIONING, attempt=2, submission=REFUSED, run=attached, now=NOW + 99_999)
    assert kept.state.phase is Phase.PROVISIONING
    assert not is_deleted(kept)
    lost = replace(attached, liveness=RESUMABLE)
    ended = ask(RECORDED, phase=Phase.PROVISIONING, attempt=2, submission=REFUSED, run=lost, now=NOW + 99_999)
    assert ended.state.last_failure is not None
    assert ended.state.last_failure.reason == "PreRunningDeadlineExceeded"
    assert "HTTP 401" in ended.state.last_failure.message


@pytest.mark.parametrize("phase", [Phase.RESUMABLE, Phase.CANCELING], ids=str)
def test_old_outage_decides_nothing_in_later_phases(phase: Phase) -> None:
    """In these phases the head is not asked, so the recorded times prove nothing."""
    kept = cluster()
    obj = workflow(
        state(phase, cluster=unreachable(9999), next_attempt_time=NOW), spec=spec(cancel=phase is Phase.CANCELING)
    )
    found = decide(running(obj, named=kept, clusters=(kept,), submission=None), NOW)
    assert not any(isinstance(action, DeleteCluster) for action in found.actions)
    assert found.state.cluster is not None


def test_node_loss_explains_an_unreachable_head() -> None:
    found = ask(run=LOST, head=head(ready=False, node_lost=True))
    assert found.state.last_failure is not None
    assert found.state.last_failure.reason == "HeadNodeLost"
    assert found.state.resumes.disruptions == 1


def test_deadline_spares_attempts_while_the_network_is_suspect() -> None:
    many = HeadsReport(4, 4, 999)
    kept = ask(unreachable(60), phase=Phase.PROVISIONING, run=NO_RUN, heads=many, now=NOW + 25, head=UNREADY)
    assert kept.state.phase is Phase.PROVISIONING
    late = ask(RECORDED, phase=Phase.PROVISIONING, run=NO_RUN, heads=many, now=NOW + 99_999)
    assert late.state.phase is Phase.PROVISIONING
    reconciling = late.state.condition("Reconciling")
    assert reconciling is not None
    assert reconciling.reason == "NetworkSuspected"
    alone = ask(RECORDED, phase=Phase.PROVISIONING, run=NO_RUN, heads=HeadsReport(1, 1, 999), now=NOW + 99_999)
    assert alone.state.phase is Phase.RESUMABLE
