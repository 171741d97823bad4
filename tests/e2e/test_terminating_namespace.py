"""A namespace with Workflows is deleted. Its Role is deleted first, which is the worst order."""

from __future__ import annotations

import time

from dev.processes import poll
from tests.e2e.conftest import NAMESPACES
from tests.e2e.kubectl import Kubectl
from tests.e2e.namespace import WorkflowNamespace
from tests.e2e.release import RELEASE_NAMESPACE, install
from workflow_operator.adapters.references import CLEANUP_LABELS
from workflow_operator.api.status import Phase

HOLD = "hold"
FINALIZER = "example.com/hold"
GONE_WITHIN_SECONDS = 30.0


def test_namespace_with_workflows_is_deleted_in_time(
    namespaces: dict[str, WorkflowNamespace], kubectl: Kubectl, measurements: dict[str, str]
) -> None:
    namespace = namespaces["e2e-gone"]
    namespace.create("running")
    namespace.create("resumable", recovery={"policy": "Manual"})
    namespace.create("pending", code="missing")
    at_gate = {name: namespace.until_at_gate(name) for name in ("running", "resumable")}
    cluster = at_gate["resumable"].state.cluster
    assert cluster is not None
    namespace.kill_head(cluster.name)
    namespace.until_phase("resumable", Phase.RESUMABLE, after=at_gate["resumable"])

    hold = {"name": HOLD, "namespace": namespace.name, "finalizers": [FINALIZER]}
    kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": hold})
    kubectl.kubectl("-n", namespace.name, "delete", "roles,rolebindings", "--all")
    began = time.monotonic()
    kubectl.kubectl("delete", "namespace", namespace.name, "--wait=false")
    assert poll(lambda: not kubectl.objects("workflows", namespace.name), GONE_WITHIN_SECONDS), namespace.diagnosis(
        "running", f"the Workflows were not deleted within {GONE_WITHIN_SECONDS:.0f} s"
    )
    measurements["namespace deleted -> no Workflow left"] = f"{time.monotonic() - began:.1f} s"
    for name in ("running", "resumable", "pending"):
        last = [event.state for event in namespace.histories.of(name) if event.workflow is not None][-1]
        assert last.attempt == (0 if name == "pending" else 1), "no attempt starts in a namespace that is being deleted"

    install(kubectl, NAMESPACES)  # Helm leaves out the namespace that is being deleted
    kubectl.kubectl(
        "-n", namespace.name, "patch", "configmap", HOLD, "--type=merge", "-p", '{"metadata":{"finalizers":null}}'
    )
    assert poll(lambda: kubectl.get("namespace", namespace.name) is None, GONE_WITHIN_SECONDS), kubectl.output_of(
        "get", "namespace", namespace.name, "-o", "yaml"
    )
    labels = ",".join(f"{key}={value}" for key, value in CLEANUP_LABELS.items())
    assert kubectl.objects("configmaps", RELEASE_NAMESPACE, labels) == []
    other = namespaces["e2e-refused"]
    other.create("after-deletion", code="missing")
    other.until("after-deletion", lambda state: state.phase is Phase.PENDING)
