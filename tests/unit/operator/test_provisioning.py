"""Decisions in the phase Provisioning."""

from __future__ import annotations

from dataclasses import replace
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
    spec,
    state,
    tombstone,
    view,
    workflow,
)
from tests.unit.operator.cases import (
    CANCELED,
    CHOSEN,
    CODED,
    GOOD_CODE,
    NO_CODE,
    OTHER,
    RECORDED,
    SHARED,
    Case,
    J,
    W,
    check,
)
from workflow_operator.api.spec import ClusterTemplate
from workflow_operator.api.status import ClusterStatus, CodeStatus, Ending, Phase, Resumes
from workflow_operator.core.actions import CreateCluster, DeleteCluster, StageArgs, StageCode, SubmitRun
from workflow_operator.core.cluster_manifest import digest
from workflow_operator.core.decide import decide
from workflow_operator.core.log_view import ErrorInfo
from workflow_operator.core.names import TEMPLATE_LABEL
from workflow_operator.core.observation import Observation, PodProblem, RunReadFailure, StoreFailure


def provisioning(named: Any = None, **changes: Any) -> Observation:
    unread = ClusterStatus(name=build.ATTEMPT_NAME)
    obj = workflow(
        state(Phase.PROVISIONING, cluster=changes.pop("recorded", unread)), spec=changes.pop("spec_", spec())
    )
    owned = (named,) if named is not None and named.owner_uid == build.UID else ()
    return observation_of(obj, named=named, clusters=owned, **changes)


LABELS = dict(cluster().labels)
TEMPLATE = ClusterTemplate(spec=build.TEMPLATE)
UNREADY = cluster(head=head(running=False, ready=False, phase="Pending"))

PROVISIONING = {
    "create the cluster": Case(provisioning(), Phase.PROVISIONING, "CreatingCluster", (CreateCluster,)),
    "cluster refused by the API server": Case(
        provisioning(refused="admission webhook denied it"),
        Phase.PROVISIONING,
        "RayClusterRefused",
        (CreateCluster,),
        message="correct spec.cluster.template: admission webhook denied it",
        condition="Stalled",
    ),
    "name used by a foreign cluster": Case(
        provisioning(cluster(owner_uid="", labels={})), Phase.PROVISIONING, "ClusterNameTaken", condition="Stalled"
    ),
    "head is starting": Case(provisioning(UNREADY), Phase.PROVISIONING, "ClusterStarting"),
    "image cannot be pulled": Case(
        provisioning(replace(UNREADY, pod_problem=PodProblem("ImagePullBackOff", "image nope:1", NOW))),
        Phase.PROVISIONING,
        "ImagePullBackOff",
        message="image nope:1",
        condition="ClusterReady",
    ),
    "spec refused by KubeRay": Case(
        provisioning(cluster(head=None, warning="InvalidRayClusterSpec: headGroupSpec")),
        Phase.PROVISIONING,
        "RayClusterWarning",
        message="correct spec.cluster.template: InvalidRayClusterSpec",
        condition="Stalled",
    ),
    "template corrected before the cluster was ready": Case(
        provisioning(replace(UNREADY, labels=LABELS | {TEMPLATE_LABEL: "of another template"})),
        Phase.RESUMABLE,
        "TemplateChanged",
        (DeleteCluster,),
    ),
    "template unchanged": Case(
        provisioning(replace(UNREADY, labels=LABELS | {TEMPLATE_LABEL: digest(TEMPLATE)})),
        Phase.PROVISIONING,
        "ClusterStarting",
    ),
    "template changed after the cluster was ready": Case(
        provisioning(cluster(labels=LABELS | {TEMPLATE_LABEL: "of another template"})),
        Phase.PROVISIONING,
        "Submitting",
        (SubmitRun,),
    ),
    "cluster is queued": Case(
        provisioning(cluster(head=None, suspended=True)), Phase.PROVISIONING, "Queued", now=NOW + 9999
    ),
    "submit to a ready head": Case(
        provisioning(cluster()), Phase.PROVISIONING, "Submitting", (SubmitRun,), expect={"cluster": RECORDED}
    ),
    "copy the code before submitting": Case(
        provisioning(cluster(), spec_=CODED, config_map=GOOD_CODE),
        Phase.PROVISIONING,
        "Submitting",
        (StageCode, SubmitRun),
        expect={"code": CodeStatus(config_map="trip-code", sha256="abc")},
    ),
    "store the arguments before submitting": Case(
        provisioning(cluster(), spec_=spec(args={"origin": "OAK"})),
        Phase.PROVISIONING,
        "Submitting",
        (StageArgs, SubmitRun),
    ),
    "a resume needs no arguments": Case(
        provisioning(cluster(), spec_=spec(args={"origin": "OAK"}), run=read(view(), W.RESUMABLE)),
        Phase.PROVISIONING,
        "Submitting",
        (SubmitRun,),
    ),
    "store down with a ready head": Case(
        provisioning(cluster(), run=RunReadFailure(StoreFailure.UNAVAILABLE, "no answer")),
        Phase.PROVISIONING,
        "StoreUnavailable",
    ),
    "code missing with a ready head": Case(
        provisioning(cluster(), spec_=CODED, config_map=NO_CODE), Phase.PROVISIONING, "ConfigMapMissing"
    ),
    "submission unknown to the recorded head": Case(
        provisioning(cluster(), recorded=RECORDED, submission=job(J.UNKNOWN)),
        Phase.PROVISIONING,
        "Submitting",
        (SubmitRun,),
    ),
    "submission is pending": Case(
        provisioning(cluster(), recorded=RECORDED, submission=job(J.PENDING)), Phase.PROVISIONING, "SubmissionPending"
    ),
    "submission is running": Case(
        provisioning(cluster(), recorded=RECORDED, submission=job()),
        Phase.RUNNING,
        "SubmissionRunning",
        expect={"start_time": NOW},
    ),
    "no cluster matches": Case(
        provisioning(recorded=None, spec_=build.spec(build.SELECTING), candidates=(cluster(2),)),
        Phase.PROVISIONING,
        "NoClusterMatches",
    ),
    "select a cluster": Case(
        provisioning(recorded=None, spec_=build.spec(build.SELECTING), candidates=(SHARED,)),
        Phase.PROVISIONING,
        "ClusterSelected",
        expect={"cluster": CHOSEN.model_copy(update={"head": None})},
    ),
    "selected cluster is no longer ready": Case(
        provisioning(
            replace(SHARED, suspended=True, head=None),
            recorded=CHOSEN.model_copy(update={"head": None}),
            spec_=build.spec(build.SELECTING),
        ),
        Phase.PROVISIONING,
        "NoClusterMatches",
        expect={"cluster": None},
    ),
    "another owner claimed the run": Case(
        provisioning(cluster(), recorded=RECORDED, submission=job(J.FAILED, 4), run=read(view(owner=OTHER))),
        Phase.PENDING,
        "WorkflowIdInUse",
        (DeleteCluster,),
        expect={"blocked_since": NOW, "cluster": None},
    ),
    "not running at the deadline": Case(
        provisioning(UNREADY),
        Phase.RESUMABLE,
        "PreRunningDeadlineExceeded",
        (DeleteCluster,),
        now=NOW - 50 + 1800,
        expect={"resumes": Resumes(never_ran=1, without_progress=1)},
    ),
    "head failed before it was ready": Case(
        provisioning(cluster(head=head(phase="Failed", running=False, reason="OOMKilled"))),
        Phase.RESUMABLE,
        "HeadPodFailed",
        (DeleteCluster,),
        message="OOMKilled",
    ),
    "entrypoint refused its input": Case(
        provisioning(cluster(), recorded=RECORDED, submission=job(J.FAILED, 6, "no such module: trp")),
        Phase.RESUMABLE,
        "EntrypointInvalid",
        message="no such module: trp",
        expect={"ending": Ending(status="FAILED", reason="EntrypointInvalid", message="no such module: trp")},
    ),
    "invalid code is recorded in the log": Case(
        provisioning(
            cluster(),
            recorded=RECORDED,
            run=read(
                tombstone("EntrypointInvalid", W.FAILED, error=ErrorInfo("EntrypointInvalid", "write def book_trip"))
            ),
        ),
        Phase.FAILED,
        "EntrypointInvalid",
        (DeleteCluster,),
        message="write def book_trip",
    ),
    "cancel": Case(provisioning(UNREADY, spec_=CANCELED), Phase.CANCELING, "Canceling"),
}


@pytest.mark.parametrize("case", PROVISIONING.values(), ids=PROVISIONING.keys())
def test_provisioning(case: Case) -> None:
    check(case)


def test_submission_goes_to_the_recorded_head() -> None:
    decision = decide(provisioning(cluster()), NOW)
    (submission,) = (action for action in decision.actions if isinstance(action, SubmitRun))
    assert decision.state.cluster is not None
    assert submission.head.identity == decision.state.cluster.head == build.HEAD
    assert submission.head.token_secret == build.ATTEMPT_NAME
    assert submission.submission_id == f"rwf-{build.UID}-1"
    assert (submission.run.run_number, submission.run.attempt) == (1, 1)


def test_time_in_a_queue_does_not_count_towards_the_deadline() -> None:
    queued = ClusterStatus(name=build.ATTEMPT_NAME, uid="cluster-1", queued=True)
    decision = decide(provisioning(UNREADY, recorded=queued), NOW + 9999)
    assert decision.state.phase is Phase.PROVISIONING
    assert decision.state.attempt_time == NOW + 9999


def test_workflows_spread_over_the_matching_clusters() -> None:
    shared = tuple(cluster(name=name, uid=name, labels={"pool": "a"}, owner_uid="") for name in "abc")
    selected = set()
    for digit in range(16):
        observation = provisioning(recorded=None, spec_=build.spec(build.SELECTING), candidates=shared)
        obj = replace(observation.workflow, uid=f"{digit:x}")
        decided = decide(replace(observation, workflow=obj), NOW).state.cluster
        assert decided is not None
        selected.add(decided.name)
    assert selected == set("abc")


def test_recorded_name_of_an_older_operator_is_kept() -> None:
    """An older operator recorded the name before it was stopped. A later round looks for the cluster under it."""
    decision = decide(provisioning(recorded=ClusterStatus(name="trip-9f3c1a2b00-1", provisioned=True)), NOW)
    (created,) = [action for action in decision.actions if isinstance(action, CreateCluster)]
    assert (created.name, created.manifest["metadata"]["name"]) == ("trip-9f3c1a2b00-1", "trip-9f3c1a2b00-1")
    assert decision.state.cluster is not None
    assert decision.state.cluster.name == "trip-9f3c1a2b00-1"
