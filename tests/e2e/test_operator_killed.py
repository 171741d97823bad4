"""The operator is killed in every phase of one Workflow, and a new pod continues each time.

No action is repeated or lost, because all decisions are recorded in the status, in the cluster and in the log.
"""

from __future__ import annotations

from tests.e2e.histories import phases
from tests.e2e.namespace import BOOT_SECONDS, FLOWS, WorkflowNamespace
from workflow_operator.api.status import Phase, WorkflowState

NAME = "tour"
NEXT_LEADER_SECONDS = 60.0
"""Timeout until another pod runs and the lease of the killed one has expired."""

PRINT_SUBMISSION_IDS = """
import json, os, urllib.request
ask = urllib.request.Request("http://127.0.0.1:8265/api/jobs/")
ask.add_header("Authorization", "Bearer " + os.environ["RAY_AUTH_TOKEN"])
print(" ".join(sorted(job["submission_id"] or "" for job in json.load(urllib.request.urlopen(ask)))))
"""


def test_workflow_survives_operator_kills_in_every_phase(
    namespaces: dict[str, WorkflowNamespace], measurements: dict[str, str]
) -> None:
    namespace = namespaces["e2e-tour"]
    namespace.create(NAME, code="comes-later", recovery={"policy": "Manual"})
    pending = namespace.until(NAME, _waits_for_code)
    namespace.release.kill_operator()
    namespace.code("comes-later", {"flows.py": FLOWS})

    provisioning = namespace.until_phase(NAME, Phase.PROVISIONING, NEXT_LEADER_SECONDS, after=pending)
    measurements["operator killed -> next operator pod acts"] = f"{provisioning.at - pending.at:.1f} s"
    namespace.release.kill_operator()

    at_gate = namespace.until_at_gate(NAME)
    assert at_gate.state.cluster is not None
    assert _submissions(namespace, at_gate.state.cluster.name) == [f"rwf-{namespace.uid(NAME)}-1"]
    namespace.release.kill_operator()
    namespace.kill_head(at_gate.state.cluster.name)

    resumable = namespace.until_phase(NAME, Phase.RESUMABLE, NEXT_LEADER_SECONDS, after=at_gate)
    assert resumable.state.last_failure is not None
    assert resumable.state.last_failure.reason == "HeadPodLost"
    namespace.release.kill_operator()
    namespace.patch(NAME, {"metadata": {"annotations": {"rayworkflow.dev/resume": "now"}}})

    resumed = namespace.until(NAME, lambda state: state.epoch == 2, NEXT_LEADER_SECONDS + BOOT_SECONDS, after=resumable)
    assert resumed.state.cluster is not None
    namespace.bucket.until_started(namespace.name, NAME, "gate", times=2)
    assert _submissions(namespace, resumed.state.cluster.name) == [f"rwf-{namespace.uid(NAME)}-2"]
    namespace.patch(NAME, {"spec": {"cancel": True}})
    canceling = namespace.until_phase(NAME, Phase.CANCELING, after=resumed)
    namespace.release.kill_operator()

    done = namespace.until_phase(NAME, Phase.CANCELED, NEXT_LEADER_SECONDS, after=canceling)
    assert (done.state.attempt, done.state.epoch, done.state.resumes.total) == (2, 2, 1)
    assert namespace.marks(NAME) == {"one": 1, "two": 1, "three": 1, "gate": 2}
    history = phases(namespace.histories.of(NAME))
    first, second = [Phase.PENDING, Phase.PROVISIONING, Phase.RUNNING], [Phase.PROVISIONING, Phase.RUNNING]
    assert history == [*first, Phase.RESUMABLE, *second, Phase.CANCELING, Phase.CANCELED]
    namespace.until_no_cluster(NAME, NEXT_LEADER_SECONDS)


def _waits_for_code(state: WorkflowState) -> bool:
    accepted = state.condition("Accepted")
    return accepted is not None and accepted.reason == "ConfigMapMissing"


def _submissions(namespace: WorkflowNamespace, cluster: str) -> list[str]:
    """Return the ids of all submissions that a cluster knows."""
    return namespace.python_in_head(cluster, PRINT_SUBMISSION_IDS).split()
