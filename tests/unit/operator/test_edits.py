"""What a change of each field of the spec does after the start; docs/workflow-resource.md contains the same table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.operator import build
from tests.unit.operator.build import (
    NOW,
    cluster,
    head,
    job,
    observation_of,
    read,
    running,
    spec,
    state,
    view,
    workflow,
)
from tests.unit.operator.cases import CHOSEN, FAILURE, RECORDED, SHARED, J, W
from workflow_operator.api import crds
from workflow_operator.api.rules import RULES
from workflow_operator.api.spec import Auth, ClusterTemplate
from workflow_operator.api.status import ClusterStatus, Failure, Phase, Resumes, WorkflowState
from workflow_operator.core.actions import CreateCluster, DeleteCheckpoints, DeleteCluster, EndRun, SubmitRun
from workflow_operator.core.cluster_manifest import digest
from workflow_operator.core.decide import decide
from workflow_operator.core.decide.edits import APPLIES_LATER
from workflow_operator.core.names import TEMPLATE_LABEL
from workflow_operator.core.observation import ClusterView, Observation

REFUSED, LATER, AT_ONCE = "refused", "next attempt", "at once"
EFFECTS = {
    "entrypoint": REFUSED,
    "args": REFUSED,
    "code.configMap.name": REFUSED,
    "runtimeEnv": LATER,
    "cluster.template.metadata.labels": LATER,
    "cluster.template.metadata.annotations": LATER,
    "cluster.template.spec": LATER,
    "cluster.selector.matchLabels": LATER,
    "cluster.retain": AT_ONCE,
    "cluster.retainSeconds": AT_ONCE,
    "storage.uri": REFUSED,
    "storage.endpoint": REFUSED,
    "storage.region": REFUSED,
    "storage.secretRef.name": REFUSED,
    "workflowId": REFUSED,
    "cancel": AT_ONCE,
    "recovery.policy": AT_ONCE,
    "recovery.maxResumes": AT_ONCE,
    "recovery.maxDisruptions": AT_ONCE,
    "recovery.backoff.initialSeconds": AT_ONCE,
    "recovery.backoff.maxSeconds": AT_ONCE,
    "failureDetection.unreachableSeconds": AT_ONCE,
    "preRunningDeadlineSeconds": AT_ONCE,
    "checkpoints.retention": AT_ONCE,
    "auth": LATER,
    "managerUnresponsiveSeconds": LATER,
}
PAGE = (Path(__file__).parents[3] / "docs" / "workflow-resource.md").read_text(encoding="utf-8")
TEMPLATE = ClusterTemplate(spec=build.TEMPLATE)
LABELS = {**cluster().labels, TEMPLATE_LABEL: digest(TEMPLATE)}
NEWER: dict[str, Any] = {**build.TEMPLATE, "rayVersion": "2.60.1"}
SELECTOR = {"selector": {"matchLabels": {"pool": "a"}}}
UNREADY = cluster(labels=LABELS, head=head(running=False, ready=False, phase="Pending"))


def leaves(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, inner in schema["properties"].items():
        if "properties" in inner:
            yield from leaves(inner, f"{path}{name}.")
        else:
            yield f"{path}{name}"


def rows() -> dict[str, str]:
    section = PAGE.partition("### Changes of the spec")[2].partition("\n## ")[0]
    found = re.findall(r"^\| (`[^|]+`) \| ([^|]+) \|", section, flags=re.MULTILINE)
    return {name: effect for names, effect in found for name in re.findall(r"`([^`]+)`", names)}


def covering(path: str, names: set[str]) -> list[str]:
    return [name for name in names if path == name or path.startswith(f"{name}.")]


def test_every_field_has_a_decision() -> None:
    schema = crds.workflow_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert set(leaves(schema)) == set(EFFECTS)


@pytest.mark.parametrize(("path", "effect"), EFFECTS.items())
def test_page_states_the_effect_of_each_field(path: str, effect: str) -> None:
    table = rows()
    (row,) = covering(path, set(table))
    assert table[row].startswith(effect)


@pytest.mark.parametrize("path", [path for path, effect in EFFECTS.items() if effect == REFUSED])
def test_refused_field_has_a_rule(path: str) -> None:
    """tests/operator/test_immutability.py applies the rules."""
    changed = [rule.message.split()[0] for rule in RULES if "cannot change once" in rule.message]
    assert covering(path, set(changed))


def submitted(seen: Observation) -> WorkflowState:
    """Return the status after the submission of an attempt."""
    return decide(seen, NOW).state


STARTED = submitted(
    observation_of(
        workflow(state(Phase.PROVISIONING, cluster=ClusterStatus(name=build.ATTEMPT_NAME))),
        named=cluster(labels=LABELS),
        clusters=(cluster(labels=LABELS),),
    )
)


def while_running(changed: Any, named: ClusterView | None = None, recorded: ClusterStatus = RECORDED) -> Observation:
    shown = named or cluster(labels=LABELS)
    started = STARTED.model_copy(update={"phase": Phase.RUNNING, "cluster": recorded})
    return running(workflow(started, spec=changed), named=shown, clusters=(shown,) if shown.owner_uid else ())


WAITING = {
    "runtimeEnv": (spec(runtimeEnv={"pip": ["numpy"]}), "spec.runtimeEnv"),
    "managerUnresponsiveSeconds": (spec(managerUnresponsiveSeconds=99), "spec.managerUnresponsiveSeconds"),
    "auth": (spec(auth="Disabled"), "spec.cluster.template or spec.auth"),
    "template": (spec(cluster={"template": {"spec": NEWER}}), "spec.cluster.template or spec.auth"),
    "metadata": (
        spec(cluster={"template": {"spec": build.TEMPLATE, "metadata": {"labels": {"a": "b"}}}}),
        "spec.cluster.template or spec.auth",
    ),
    "selector in place of template": (spec(cluster=SELECTOR), "spec.cluster"),
}


@pytest.mark.parametrize(("changed", "field"), WAITING.values(), ids=WAITING.keys())
def test_condition_names_fields_that_wait_for_an_attempt(changed: Any, field: str) -> None:
    decision = decide(while_running(changed), NOW)
    applied = decision.state.condition("SpecApplied")
    assert applied is not None
    assert (applied.status, applied.reason) == ("False", APPLIES_LATER)
    assert f"a change of {field}: the next attempt" in applied.message
    assert decision.state.phase is Phase.RUNNING
    assert decision.state.observed_generation == 3


def test_condition_names_a_changed_selector() -> None:
    changed = spec(build.SELECTING, cluster={"selector": {"matchLabels": {"pool": "b"}}})
    applied = decide(while_running(changed, SHARED, CHOSEN), NOW).state.condition("SpecApplied")
    assert applied is not None
    assert "spec.cluster.selector" in applied.message


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(while_running(spec()), id="unchanged"),
        pytest.param(while_running(spec(recovery={"maxResumes": 3})), id="applies at once"),
        pytest.param(running(), id="status of an older operator"),
        pytest.param(replace(while_running(spec(auth="Disabled")), run=read(view(W.FAILED))), id="finished"),
        pytest.param(observation_of(workflow(finalizers=())), id="not started"),
    ],
)
def test_condition_is_true_if_nothing_waits(seen: Observation) -> None:
    applied = decide(seen, NOW).state.condition("SpecApplied")
    assert applied is not None
    assert applied.status == "True"


def test_condition_reports_a_spec_that_became_invalid() -> None:
    seen = running(workflow(STARTED.model_copy(update={"phase": Phase.RUNNING}), spec=None, refusal="remove x"))
    applied = decide(seen, NOW).state.condition("SpecApplied")
    assert applied is not None
    assert (applied.reason, applied.status) == ("InvalidSpec", "False")
    assert "remove x" in applied.message


def between_attempts(changed: Any, named: ClusterView, recorded: ClusterStatus = RECORDED) -> Observation:
    """Return a round in which the next attempt is due, and the cluster of the last one is alive."""
    failed = state(Phase.RESUMABLE, cluster=recorded, last_failure=FAILURE, next_attempt_time=NOW)
    return observation_of(
        workflow(failed, spec=changed),
        named=named,
        clusters=(named,) if named.owner_uid else (),
        run=read(view(), W.RESUMABLE),
    )


def test_next_attempt_uses_the_changed_template() -> None:
    changed = spec(cluster={"template": {"spec": NEWER}})
    first = decide(between_attempts(changed, cluster(labels=LABELS)), NOW)
    assert [action.name for action in first.actions if isinstance(action, DeleteCluster)] == [build.ATTEMPT_NAME]
    gone = observation_of(workflow(first.state, spec=changed), run=read(view(), W.RESUMABLE))
    (created,) = [action for action in decide(gone, NOW).actions if isinstance(action, CreateCluster)]
    assert created.manifest["spec"]["rayVersion"] == "2.60.1"


@pytest.mark.parametrize(
    ("changed", "named", "recorded"),
    [
        pytest.param(spec(cluster=SELECTOR), cluster(labels=LABELS), RECORDED, id="selector in place of template"),
        pytest.param(spec(), SHARED, CHOSEN, id="template in place of selector"),
        pytest.param(spec(cluster={"selector": {"matchLabels": {"pool": "b"}}}), SHARED, CHOSEN, id="another selector"),
    ],
)
def test_next_attempt_leaves_a_cluster_that_does_not_fit(
    changed: Any, named: ClusterView, recorded: ClusterStatus
) -> None:
    after = decide(between_attempts(changed, named, recorded), NOW).state
    assert after.cluster is None or after.cluster.name != recorded.name


def test_next_attempt_uses_an_unchanged_cluster() -> None:
    after = decide(between_attempts(spec(runtimeEnv={"pip": ["numpy"]}), cluster(labels=LABELS)), NOW).state
    assert (after.phase, after.attempt) == (Phase.PROVISIONING, 2)
    assert after.cluster is not None
    assert after.cluster.name == build.ATTEMPT_NAME


def provisioning(changed: Any, recorded: ClusterStatus | None, named: ClusterView | None = None) -> Observation:
    owned = (named,) if named is not None and named.owner_uid else ()
    waiting = state(Phase.PROVISIONING, cluster=recorded)
    return observation_of(workflow(waiting, spec=changed), named=named, clusters=owned)


UNREAD = ClusterStatus(name=build.ATTEMPT_NAME)


def test_template_in_place_of_a_selector_creates_a_cluster() -> None:
    chosen = decide(provisioning(spec(), None), NOW)
    assert chosen.state.cluster == UNREAD
    (created,) = [
        action for action in decide(provisioning(spec(), UNREAD), NOW).actions if isinstance(action, CreateCluster)
    ]
    assert created.name == build.ATTEMPT_NAME


def test_selector_in_place_of_a_template_selects_a_cluster() -> None:
    changed = spec(cluster=SELECTOR)
    assert decide(provisioning(changed, UNREAD), NOW).state.cluster is None
    failed = decide(provisioning(changed, UNREAD, UNREADY), NOW).state
    assert failed.last_failure is not None
    assert (failed.last_failure.reason, failed.cluster) == ("TemplateChanged", None)


def test_auth_changed_before_the_cluster_was_ready() -> None:
    failed = decide(provisioning(spec(auth="Disabled"), UNREAD, UNREADY), NOW).state
    assert failed.last_failure is not None
    assert failed.last_failure.reason == "TemplateChanged"
    disabled = replace(UNREADY, labels={**LABELS, TEMPLATE_LABEL: digest(TEMPLATE, Auth.DISABLED)})
    assert decide(provisioning(spec(auth="Disabled"), UNREAD, disabled), NOW).state.phase is Phase.PROVISIONING


LOST = Failure(time=NOW - 9, reason="HeadPodLost", message="gone")
DUE = state(Phase.RESUMABLE, cluster=None, last_failure=LOST, next_attempt_time=NOW, resumes=Resumes(never_ran=1))


def due(changed: Any) -> Observation:
    return observation_of(workflow(DUE, spec=changed), run=read())


def test_fields_that_apply_at_once() -> None:
    canceled = decide(running(workflow(state(Phase.RUNNING), spec=spec(cancel=True))), NOW)
    assert canceled.state.phase is Phase.CANCELING
    manual = decide(due(spec(recovery={"policy": "Manual"})), NOW).state.condition("Stalled")
    assert manual is not None
    assert manual.reason == "WaitingForResume"
    exhausted = decide(due(spec(recovery={"maxResumes": 1})), NOW)
    assert [action for action in exhausted.actions if isinstance(action, EndRun)]
    late = decide(provisioning(spec(preRunningDeadlineSeconds=10), UNREAD, UNREADY), NOW).state
    assert late.last_failure is not None
    assert late.last_failure.reason == "PreRunningDeadlineExceeded"
    deleted = workflow(state(Phase.RUNNING), spec=spec(checkpoints={"retention": "Delete"}), deleted=NOW)
    assert [action for action in decide(running(deleted), NOW).actions if isinstance(action, DeleteCheckpoints)]


@pytest.mark.parametrize(
    ("backoff", "seconds"), [({"initialSeconds": 7}, 7), ({"initialSeconds": 50, "maxSeconds": 11}, 11)]
)
def test_next_failure_uses_the_changed_backoff(backoff: dict[str, int], seconds: int) -> None:
    changed = spec(recovery={"backoff": backoff})
    seen = running(workflow(state(Phase.RUNNING), spec=changed), submission=job(J.FAILED, 1))
    assert decide(seen, NOW).state.next_attempt_time == NOW + seconds


def test_next_submission_uses_the_changed_runtime_environment() -> None:
    changed = spec(runtimeEnv={"pip": ["numpy"]}, managerUnresponsiveSeconds=99)
    decision = decide(provisioning(changed, UNREAD, cluster(labels=LABELS)), NOW)
    (posted,) = [action for action in decision.actions if isinstance(action, SubmitRun)]
    assert posted.runtime_env == {"pip": ["numpy"]}
    submission = decision.state.submission
    assert submission is not None
    assert submission.manager_unresponsive_seconds == 99
    assert decision.state.condition("SpecApplied") is not None
