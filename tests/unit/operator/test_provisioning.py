"""Decisions in phase Provisioning: what is seen, and what follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.operator import build
from tests.unit.operator.build import NOW, cluster, head, job, read, seen, spec, state, tombstone, view, workflow
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
from workflow_operator.core.actions import CreateCluster, DeleteCluster, StageCode, SubmitRun
from workflow_operator.core.cluster_manifest import digest
from workflow_operator.core.decide import decide
from workflow_operator.core.log_view import ErrorInfo
from workflow_operator.core.names import TEMPLATE_LABEL
from workflow_operator.core.observation import Observation, PodProblem, RunReadFailure, StoreFailure


def provisioning(named: Any = None, **changes: Any) -> Observation:
    fresh = ClusterStatus(name=build.ATTEMPT_NAME)
    obj = workflow(state(Phase.PROVISIONING, cluster=changes.pop("recorded", fresh)), spec=changes.pop("spec_", spec()))
    mine = (named,) if named is not None and named.owner_uid == build.UID else ()
    return seen(obj, named=named, clusters=mine, **changes)


LABELS = dict(cluster().labels)
TEMPLATE = ClusterTemplate(spec=build.TEMPLATE)
UNREADY = cluster(head=head(running=False, ready=False, phase="Pending"))

PROVISIONING = {
    "cluster to be made": Case(provisioning(), Phase.PROVISIONING, "CreatingCluster", (CreateCluster,)),
    "cluster refused by the API": Case(
        provisioning(refused="admission webhook denied it"),
        Phase.PROVISIONING,
        "RayClusterRefused",
        (CreateCluster,),
        says="correct spec.cluster.template: admission webhook denied it",
        condition="Stalled",
    ),
    "name taken by a stranger": Case(
        provisioning(cluster(owner_uid="", labels={})), Phase.PROVISIONING, "ClusterNameTaken", condition="Stalled"
    ),
    "head starts": Case(provisioning(UNREADY), Phase.PROVISIONING, "ClusterStarting"),
    "image cannot be pulled": Case(
        provisioning(replace(UNREADY, trouble=PodProblem("ImagePullBackOff", "image nope:1", NOW))),
        Phase.PROVISIONING,
        "ImagePullBackOff",
        says="image nope:1",
        condition="ClusterReady",
    ),
    "spec refused by KubeRay": Case(
        provisioning(cluster(head=None, warning="InvalidRayClusterSpec: headGroupSpec")),
        Phase.PROVISIONING,
        "RayClusterWarning",
        says="correct spec.cluster.template: InvalidRayClusterSpec",
        condition="Stalled",
    ),
    "template corrected before the cluster was ready": Case(
        provisioning(replace(UNREADY, labels=LABELS | {TEMPLATE_LABEL: "of another template"})),
        Phase.RESUMABLE,
        "TemplateChanged",
        (DeleteCluster,),
    ),
    "template as it was": Case(
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
    "waits in a queue": Case(
        provisioning(cluster(head=None, suspended=True)), Phase.PROVISIONING, "Queued", now=NOW + 9999
    ),
    "head ready": Case(
        provisioning(cluster()), Phase.PROVISIONING, "Submitting", (SubmitRun,), expect={"cluster": RECORDED}
    ),
    "head ready, code first": Case(
        provisioning(cluster(), spec_=CODED, config_map=GOOD_CODE),
        Phase.PROVISIONING,
        "Submitting",
        (StageCode, SubmitRun),
        expect={"code": CodeStatus(config_map="trip-code", sha256="abc")},
    ),
    "head ready, store down": Case(
        provisioning(cluster(), run=RunReadFailure(StoreFailure.UNAVAILABLE, "no answer")),
        Phase.PROVISIONING,
        "StoreUnavailable",
    ),
    "head ready, code gone": Case(
        provisioning(cluster(), spec_=CODED, config_map=NO_CODE), Phase.PROVISIONING, "ConfigMapMissing"
    ),
    "unknown to the same head": Case(
        provisioning(cluster(), recorded=RECORDED, submission=job(J.UNKNOWN)),
        Phase.PROVISIONING,
        "Submitting",
        (SubmitRun,),
    ),
    "submission waits": Case(
        provisioning(cluster(), recorded=RECORDED, submission=job(J.PENDING)), Phase.PROVISIONING, "SubmissionPending"
    ),
    "submission runs": Case(
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
    "a cluster matches": Case(
        provisioning(recorded=None, spec_=build.spec(build.SELECTING), candidates=(SHARED,)),
        Phase.PROVISIONING,
        "ClusterChosen",
        expect={"cluster": CHOSEN.model_copy(update={"head": None})},
    ),
    "the chosen one is not ready any more": Case(
        provisioning(
            replace(SHARED, suspended=True, head=None),
            recorded=CHOSEN.model_copy(update={"head": None}),
            spec_=build.spec(build.SELECTING),
        ),
        Phase.PROVISIONING,
        "NoClusterMatches",
        expect={"cluster": None},
    ),
    "another owner came first": Case(
        provisioning(cluster(), recorded=RECORDED, submission=job(J.FAILED, 4), run=read(view(owner=OTHER))),
        Phase.PENDING,
        "WorkflowIdInUse",
        (DeleteCluster,),
        expect={"blocked_since": NOW, "cluster": None},
    ),
    "never ran": Case(
        provisioning(UNREADY),
        Phase.RESUMABLE,
        "PreRunningDeadlineExceeded",
        (DeleteCluster,),
        now=NOW - 50 + 1800,
        expect={"resumes": Resumes(never_ran=1, without_progress=1)},
    ),
    "head fails before it is ready": Case(
        provisioning(cluster(head=head(phase="Failed", running=False, reason="OOMKilled"))),
        Phase.RESUMABLE,
        "HeadPodFailed",
        (DeleteCluster,),
        says="OOMKilled",
    ),
    "input is bad": Case(
        provisioning(cluster(), recorded=RECORDED, submission=job(J.FAILED, 6, "no such module: trp")),
        Phase.RESUMABLE,
        "EntrypointInvalid",
        says="no such module: trp",
        expect={"ending": Ending(status="FAILED", reason="EntrypointInvalid", message="no such module: trp")},
    ),
    "bad code is read from the log": Case(
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
        says="write def book_trip",
    ),
    "cancel": Case(provisioning(UNREADY, spec_=CANCELED), Phase.CANCELING, "CancelAsked"),
}


@pytest.mark.parametrize("case", PROVISIONING.values(), ids=PROVISIONING.keys())
def test_provisioning(case: Case) -> None:
    check(case)


def test_the_post_names_the_head_that_the_status_names() -> None:
    decision = decide(provisioning(cluster()), NOW)
    (post,) = (action for action in decision.actions if isinstance(action, SubmitRun))
    assert decision.state.cluster is not None
    assert post.head.identity == decision.state.cluster.head == build.HEAD
    assert post.head.token_secret == build.ATTEMPT_NAME
    assert post.submission_id == f"rwf-{build.UID}-1"
    assert (post.run.run_number, post.run.attempt) == (1, 1)


def test_a_queue_stops_the_clock() -> None:
    queued = ClusterStatus(name=build.ATTEMPT_NAME, uid="cluster-1", queued=True)
    decision = decide(provisioning(UNREADY, recorded=queued), NOW + 9999)
    assert decision.state.phase is Phase.PROVISIONING
    assert decision.state.attempt_time == NOW + 9999


def test_objects_spread_over_the_clusters_that_match() -> None:
    shared = tuple(cluster(name=name, uid=name, labels={"pool": "a"}, owner_uid="") for name in "abc")
    chosen = set()
    for digit in range(16):
        observation = provisioning(recorded=None, spec_=build.spec(build.SELECTING), candidates=shared)
        obj = replace(observation.workflow, uid=f"{digit:x}")
        decided = decide(replace(observation, workflow=obj), NOW).state.cluster
        assert decided is not None
        chosen.add(decided.name)
    assert chosen == set("abc")
