"""One RayCluster that nobody made for them serves several Workflows at once; each meets a trouble of its own there."""

from __future__ import annotations

import json
import signal
import time

import pytest

from dev.processes import poll
from tests.e2e.place import FLOWS, Place, ray_image
from tests.e2e.stories import phases
from workflow import reading
from workflow.model.status import WorkflowStatus
from workflow_operator.api.status import Phase

SHARED = "shared"
ONCE = {"one": 1, "two": 1, "three": 1, "gate": 1, "four": 1, "five": 1}
UNDISTURBED = [Phase.PENDING, Phase.PROVISIONING, Phase.RUNNING, Phase.SUCCEEDED]
NAMES = ("left", "right", "loses-its-driver", "canceled", "deleted")
ON_THE_SHARED_ONE = {"selector": {"matchLabels": {"team": "e2e"}}}

DRIVERS = """
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
ASK_FOR_JOBS = """
import os, urllib.error, urllib.request
def status(headers):
    try:
        return urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8265/api/jobs/", headers=headers)).status
    except urllib.error.HTTPError as error:
        return error.code
print(status({}), status({"Authorization": "Bearer " + os.environ["RAY_AUTH_TOKEN"]}))
"""


@pytest.fixture(scope="module")
def place(shared: Place) -> Place:
    for version in ("left", "right"):
        shared.code(f"flows-{version}", {"flows.py": FLOWS.replace('"plain"', repr(version))})
    for name in NAMES:
        code = f"flows-{name}" if name in ("left", "right") else "flows"
        shared.create(name, code=code, cluster=ON_THE_SHARED_ONE)
    return shared


def test_the_cluster_is_of_the_stock_image_and_asks_for_a_token(place: Place) -> None:
    place.until_held("left")
    spec = place.head(SHARED)["spec"]
    assert [container["image"] for container in spec["containers"]] == [ray_image()]
    found = place.python_in_head(
        SHARED, "from importlib.util import find_spec; print(find_spec('workflow'), find_spec('minio'))"
    )
    assert found.split() == ["None", "None"]
    assert place.python_in_head(SHARED, ASK_FOR_JOBS).split() == ["401", "200"]


def test_two_workflows_with_two_versions_of_one_module_run_at_once(place: Place) -> None:
    for name in ("left", "right"):
        place.until_held(name)
    for name in ("left", "right"):
        place.bucket.open_gate(place.namespace, name)
    for name in ("left", "right"):
        done = place.until_phase(name, Phase.SUCCEEDED)
        assert done.state.result == f"five of {name}"
        assert place.marks(name) == ONCE
        assert phases(place.stories.of(name)) == UNDISTURBED
    assert place.kubectl.get("raycluster", SHARED, place.namespace), "a cluster that is not ours was deleted"


def test_after_its_driver_was_killed_the_next_attempt_attaches_to_the_manager_that_lives(
    place: Place, figures: dict[str, str]
) -> None:
    name = "loses-its-driver"
    held = place.until_held(name)
    killed = time.time()
    _drivers(place, name, kill=True)
    failed = place.until_phase(name, Phase.RESUMABLE, after=held)
    figures["driver killed -> RESUMABLE"] = f"{failed.at - killed:.2f} s"
    assert failed.state.last_failure is not None
    assert failed.state.last_failure.reason == "SubmissionFailed"
    again = place.until_phase(name, Phase.RUNNING, after=failed)
    assert again.state.attempt == 2
    assert again.state.cluster is not None
    assert again.state.cluster.name == SHARED
    place.bucket.open_gate(place.namespace, name)
    done = place.until_phase(name, Phase.SUCCEEDED)
    assert done.state.epoch == 1, "the manager that lived kept its ownership"
    assert place.marks(name) == ONCE


def test_a_run_outlives_a_restart_of_its_store_in_the_middle(place: Place) -> None:
    name, count = "meets-an-outage", 20
    args = {"place": place.bucket.place(place.namespace, name), "count": count}
    place.create(name, "flows:ticks", args=args, cluster=ON_THE_SHARED_ONE)
    restarts = place.bucket.restarts()
    seen = place.until(name, lambda state: state.steps.succeeded >= 3, timeout=120)
    place.bucket.stop_server()
    done = place.until_phase(name, Phase.SUCCEEDED, timeout=120, after=seen)
    assert poll(lambda: place.bucket.restarts() == restarts + 1, 60), "the server was not started again"
    assert seen.state.steps.succeeded < count
    assert place.marks(name) == {f"tick-{number}": 1 for number in range(count)}
    assert (done.state.attempt, done.state.epoch) == (1, 1)


def test_a_canceled_workflow_stops_its_steps_and_leaves_the_cluster(place: Place, figures: dict[str, str]) -> None:
    place.until_held("canceled")
    asked = time.time()
    place.patch("canceled", {"spec": {"cancel": True}})
    done = place.until_phase("canceled", Phase.CANCELED)
    figures["spec.cancel -> Canceled"] = f"{done.at - asked:.2f} s"
    _ended(place, "canceled", done.state.workflow_id)


def test_a_deleted_workflow_is_gone_soon_and_its_run_has_an_end(place: Place, figures: dict[str, str]) -> None:
    held = place.until_held("deleted")
    asked = time.time()
    place.delete("workflow", "deleted")
    gone = place.until_gone("deleted")
    figures["deletion while running -> object gone"] = f"{gone.at - asked:.2f} s"
    _ended(place, "deleted", held.state.workflow_id)


def _ended(place: Place, name: str, workflow_id: str) -> None:
    """The log says CANCELED, no step starts any more, no driver is left, and the cluster stands."""
    view = reading.read_run(place.store(), workflow_id)
    assert view is not None
    assert view.status is WorkflowStatus.CANCELED
    place.bucket.open_gate(place.namespace, name)
    assert poll(lambda: not _drivers(place, name), 60), place.told(name, "its driver still runs")
    assert "four" not in place.marks(name)
    assert place.kubectl.get("raycluster", SHARED, place.namespace)


def _drivers(place: Place, name: str, *, kill: bool = False) -> list[str]:
    """The processes of a Workflow's submission in the head; killed, if wanted."""
    act = f"os.kill(int(folder.name), {int(signal.SIGKILL)})" if kill else "print(folder.name)"
    return place.python_in_head(SHARED, DRIVERS.format(uid=json.dumps(place.uid(name)), act=act)).split()
