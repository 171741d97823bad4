"""Evidence: a quota, a frozen dashboard and an eviction never cost more than they must."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dev.processes import poll
from tests.e2e.histories import WatchEvent
from tests.e2e.namespace import BOOT_SECONDS, WorkflowNamespace, ray_cluster_spec
from workflow_operator.api.status import Phase

QUOTA = "pods"
UNREACHABLE_SECONDS = 5
FREEZE = """
import os, signal
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        words = open(f"/proc/{pid}/cmdline").read().split(chr(0))
    except OSError:
        continue
    if any(word.endswith("dashboard/dashboard.py") or word.startswith("ray-dashboard-") for word in words):
        os.kill(int(pid), signal.SIGSTOP)
        print("stopped", pid)
"""
"""Stops the processes of the dashboard in a head, and no other process."""


@pytest.fixture(scope="module")
def namespace(namespaces: dict[str, WorkflowNamespace]) -> WorkflowNamespace:
    """A namespace with three Workflows that start at the same time."""
    namespace = namespaces["e2e-evidence"]
    namespace.create("loses-a-worker", cluster={"template": {"spec": _with_worker()}})
    namespace.create("frozen-dashboard", failureDetection={"unreachableSeconds": UNREACHABLE_SECONDS})
    namespace.create("evicted", recovery={"maxResumes": 0})
    return namespace


@contextmanager
def quota(namespace: WorkflowNamespace, pods: int) -> Iterator[None]:
    """Limit the pods of the namespace while the block runs."""
    namespace.apply("ResourceQuota", "v1", QUOTA, spec={"hard": {"pods": str(pods)}})
    try:
        yield
    finally:
        namespace.delete("resourcequota", QUOTA)


def until_message(namespace: WorkflowNamespace, name: str, kind: str, text: str) -> WatchEvent:
    """Wait until the message of a condition contains a text."""

    def is_shown(event: WatchEvent) -> bool:
        condition = event.state.condition(kind)
        return condition is not None and text in condition.message

    event = namespace.histories.until(name, is_shown, 90)
    assert event is not None, namespace.diagnosis(name, f"the condition {kind} does not contain {text!r}")
    return event


def succeeds_with_one_attempt(namespace: WorkflowNamespace, name: str) -> None:
    done = namespace.until_phase(name, Phase.SUCCEEDED, BOOT_SECONDS)
    assert (done.state.attempt, done.state.resumes.total) == (1, 0), namespace.diagnosis(name, "it was resumed")


def test_quota_for_a_replaced_worker_keeps_the_cluster(namespace: WorkflowNamespace) -> None:
    name = "loses-a-worker"
    at_gate = namespace.until_at_gate(name)
    assert at_gate.state.cluster is not None
    cluster = at_gate.state.cluster.name
    assert poll(lambda: len(namespace.workers(cluster)) == 1, BOOT_SECONDS)
    with quota(namespace, 0):
        namespace.kill_pod(namespace.workers(cluster)[0])
        shown = until_message(namespace, name, "WorkersReady", "exceeded quota: pods")
        assert shown.state.phase is Phase.RUNNING
        namespace.bucket.open_gate(namespace.name, name)
        succeeds_with_one_attempt(namespace, name)


def test_frozen_dashboard_keeps_the_cluster(namespace: WorkflowNamespace) -> None:
    name = "frozen-dashboard"
    at_gate = namespace.until_at_gate(name)
    assert at_gate.state.cluster is not None
    assert "stopped" in namespace.python_in_head(at_gate.state.cluster.name, FREEZE)
    shown = until_message(namespace, name, "Running", "the heartbeat of the run's owner has not expired")
    assert shown.state.cluster is not None
    since = shown.state.cluster.unreachable_since
    assert since is not None
    later = namespace.until(
        name,
        lambda state: state.cluster is not None and (state.cluster.unreachable_until or 0.0) > since + 30,
        90,
        after=shown,
    )
    assert later.state.phase is Phase.RUNNING
    namespace.bucket.open_gate(namespace.name, name)
    succeeds_with_one_attempt(namespace, name)


def test_evicted_head_is_a_disruption(namespace: WorkflowNamespace, measurements: dict[str, str]) -> None:
    name = "evicted"
    at_gate = namespace.until_at_gate(name)
    assert at_gate.state.cluster is not None
    pod = namespace.head(at_gate.state.cluster.name)["metadata"]["name"]
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace.name}}
    path = f"/api/v1/namespaces/{namespace.name}/pods/{pod}/eviction"
    evicted = time.time()
    namespace.kubectl.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))
    resumable = namespace.until_phase(name, Phase.RESUMABLE, after=at_gate)
    measurements["head eviction -> RESUMABLE"] = f"{resumable.at - evicted:.2f} s"
    assert resumable.state.last_failure is not None
    assert resumable.state.last_failure.reason == "HeadDisrupted"
    assert "EvictionByEvictionAPI" in resumable.state.last_failure.message
    assert resumable.state.resumes.disruptions == 1
    namespace.until_event(name, "HeadDisrupted")
    namespace.bucket.until_started(namespace.name, name, "gate", times=2, timeout=BOOT_SECONDS)
    namespace.bucket.open_gate(namespace.name, name)
    done = namespace.until_phase(name, Phase.SUCCEEDED, BOOT_SECONDS, after=resumable)
    assert (done.state.attempt, done.state.resumes.total) == (2, 1)


def test_quota_at_the_start_only_delays_the_attempt(namespace: WorkflowNamespace) -> None:
    with quota(namespace, 0):
        namespace.create("waits-for-quota", "flows:short")
        shown = until_message(namespace, "waits-for-quota", "ClusterReady", "exceeded quota: pods")
        assert shown.state.phase is Phase.PROVISIONING
    succeeds_with_one_attempt(namespace, "waits-for-quota")


def _with_worker() -> dict[str, Any]:
    """Return the spec of a cluster with an additional worker, which no step needs."""
    spec = ray_cluster_spec()
    group = {"groupName": "workers", "replicas": 1, "minReplicas": 1, "maxReplicas": 1, **spec["headGroupSpec"]}
    return {**spec, "workerGroupSpecs": [group]}
