"""One existing RayCluster serves several Workflows at once, and each of them meets a different failure."""

from __future__ import annotations

import json
import signal
import time

import pytest

from dev.processes import poll
from tests.e2e.histories import phases
from tests.e2e.namespace import FLOWS, WorkflowNamespace, ray_image
from workflow import reading
from workflow.model.status import WorkflowStatus
from workflow_operator.api.status import Phase

SHARED = "shared"
EACH_STEP_ONCE = {"one": 1, "two": 1, "three": 1, "gate": 1, "four": 1, "five": 1}
PHASES_WITHOUT_FAILURE = [Phase.PENDING, Phase.PROVISIONING, Phase.RUNNING, Phase.SUCCEEDED]
NAMES = ("left", "right", "loses-its-driver", "canceled", "deleted")
SHARED_CLUSTER = {"selector": {"matchLabels": {"team": "e2e"}}}

FOR_EACH_DRIVER = """
import os, pathlib
for folder in pathlib.Path("/proc").iterdir():
    if folder.name.isdigit() and int(folder.name) != os.getpid():
        try:
            words = (folder / "cmdline").read_bytes().replace(b"\\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "workflow.entrypoint" in words and {uid!r} in words:
            {act}
"""
PRINT_JOBS_API_STATUS = """
import os, urllib.error, urllib.request
def status(headers):
    try:
        return urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8265/api/jobs/", headers=headers)).status
    except urllib.error.HTTPError as error:
        return error.code
print(status({}), status({"Authorization": "Bearer " + os.environ["RAY_AUTH_TOKEN"]}))
"""


@pytest.fixture(scope="module")
def namespace(shared: WorkflowNamespace) -> WorkflowNamespace:
    for version in ("left", "right"):
        shared.code(f"flows-{version}", {"flows.py": FLOWS.replace('"plain"', repr(version))})
    for name in NAMES:
        code = f"flows-{name}" if name in ("left", "right") else "flows"
        shared.create(name, code=code, cluster=SHARED_CLUSTER)
    return shared


def test_cluster_uses_the_official_image_and_requires_a_token(namespace: WorkflowNamespace) -> None:
    namespace.until_at_gate("left")
    spec = namespace.head(SHARED)["spec"]
    assert [container["image"] for container in spec["containers"]] == [ray_image()]
    found = namespace.python_in_head(
        SHARED, "from importlib.util import find_spec; print(find_spec('workflow'), find_spec('minio'))"
    )
    assert found.split() == ["None", "None"]
    assert namespace.python_in_head(SHARED, PRINT_JOBS_API_STATUS).split() == ["401", "200"]


def test_two_versions_of_a_module_run_at_the_same_time(namespace: WorkflowNamespace) -> None:
    for name in ("left", "right"):
        namespace.until_at_gate(name)
    for name in ("left", "right"):
        namespace.bucket.open_gate(namespace.name, name)
    for name in ("left", "right"):
        done = namespace.until_phase(name, Phase.SUCCEEDED)
        assert done.state.result == f'"five of {name}"'
        assert namespace.marks(name) == EACH_STEP_ONCE
        assert phases(namespace.histories.of(name)) == PHASES_WITHOUT_FAILURE
    assert namespace.kubectl.get("raycluster", SHARED, namespace.name), (
        "the operator deleted a cluster that it did not create"
    )


def test_next_attempt_attaches_to_the_live_manager(namespace: WorkflowNamespace, measurements: dict[str, str]) -> None:
    name = "loses-its-driver"
    at_gate = namespace.until_at_gate(name)
    killed = time.time()
    _drivers(namespace, name, kill=True)
    failed = namespace.until_phase(name, Phase.RESUMABLE, after=at_gate)
    measurements["driver killed -> RESUMABLE"] = f"{failed.at - killed:.2f} s"
    assert failed.state.last_failure is not None
    assert failed.state.last_failure.reason == "SubmissionFailed"
    resubmitted = namespace.until_phase(name, Phase.RUNNING, after=failed)
    assert resubmitted.state.attempt == 2
    assert resubmitted.state.cluster is not None
    assert resubmitted.state.cluster.name == SHARED
    namespace.bucket.open_gate(namespace.name, name)
    done = namespace.until_phase(name, Phase.SUCCEEDED)
    assert done.state.epoch == 1, "the live manager kept its ownership"
    assert namespace.marks(name) == EACH_STEP_ONCE


def test_run_survives_a_restart_of_its_store(namespace: WorkflowNamespace) -> None:
    name, count = "meets-an-outage", 20
    args = {"marks_url": namespace.bucket.marks_url(namespace.name, name), "count": count}
    namespace.create(name, "flows:ticks", args=args, cluster=SHARED_CLUSTER)
    restarts = namespace.bucket.restarts()
    seen = namespace.until(name, lambda state: state.steps.succeeded >= 3, timeout=120)
    namespace.bucket.stop_server()
    done = namespace.until_phase(name, Phase.SUCCEEDED, timeout=120, after=seen)
    assert poll(lambda: namespace.bucket.restarts() == restarts + 1, 60), "the server was not restarted"
    assert seen.state.steps.succeeded < count
    assert (done.state.attempt, done.state.epoch) == (1, 1), done.state.last_failure
    assert namespace.marks(name) == {f"tick-{number}": 1 for number in range(count)}


def test_cancel_stops_the_steps_but_not_the_cluster(namespace: WorkflowNamespace, measurements: dict[str, str]) -> None:
    namespace.until_at_gate("canceled")
    started = time.time()
    namespace.patch("canceled", {"spec": {"cancel": True}})
    done = namespace.until_phase("canceled", Phase.CANCELED)
    measurements["spec.cancel -> Canceled"] = f"{done.at - started:.2f} s"
    _check_canceled(namespace, "canceled", done.state.workflow_id)


def test_deletion_ends_the_run_soon(namespace: WorkflowNamespace, measurements: dict[str, str]) -> None:
    at_gate = namespace.until_at_gate("deleted")
    started = time.time()
    namespace.delete("workflow", "deleted")
    gone = namespace.until_gone("deleted")
    measurements["deletion while running -> object gone"] = f"{gone.at - started:.2f} s"
    _check_canceled(namespace, "deleted", at_gate.state.workflow_id)


def _check_canceled(namespace: WorkflowNamespace, name: str, workflow_id: str) -> None:
    """Check that the log has status CANCELED, no step or driver runs, and the cluster exists."""
    view = reading.read_run(namespace.store(), workflow_id)
    assert view is not None
    assert view.status is WorkflowStatus.CANCELED
    namespace.bucket.open_gate(namespace.name, name)
    assert poll(lambda: not _drivers(namespace, name), 60), namespace.diagnosis(name, "its driver is still running")
    assert "four" not in namespace.marks(name)
    assert namespace.kubectl.get("raycluster", SHARED, namespace.name)


def _drivers(namespace: WorkflowNamespace, name: str, *, kill: bool = False) -> list[str]:
    """Return the process ids of a Workflow's driver in the head, or kill the processes."""
    act = f"os.kill(int(folder.name), {int(signal.SIGKILL)})" if kill else "print(folder.name)"
    return namespace.python_in_head(
        SHARED, FOR_EACH_DRIVER.format(uid=json.dumps(namespace.uid(name)), act=act)
    ).split()
