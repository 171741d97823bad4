"""Why no worker starts: what a step requests, what the cluster has, when that is logged, and until when it is shown."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.unit.engine.dispatch.leasing import LeaseFixture, key, settle
from workflow.engine.dispatch import leases as engine_leases
from workflow.engine.dispatch.demand import ClusterNode, WaitReason, demand_of, wait_reason
from workflow.engine.messages import RunAddress

ALONE = ClusterNode("n1", {"CPU": 2.0, "memory": 4 * 2.0**30}, {"zone": "a"})
LARGE = ClusterNode("n2", {"CPU": 64.0, "GPU": 1.0, "accelerator_type:T4": 1.0, "memory": 2.0**30}, {"zone": "b"})
WAITS = (
    "it waits for a node that fits, for example from an autoscaler; if none will come, cancel the workflow and run it "
    "with other options under another id"
)
BUSY = "it waits until other steps, tasks and actors release what it needs"
ONE = "the only node of the cluster does not have that; that node has"
TWO = "no node of the cluster has that; the most that one of its 2 nodes has is"

CASES: dict[str, tuple[dict[str, Any], list[ClusterNode], str]] = {
    "a GPU": ({"num_gpus": 1}, [ALONE], f"it requests 1 CPU, 1 GPU, and {ONE} 2 CPU, 0 GPU; {WAITS}"),
    "a resource": ({"resources": {"x": 0.5}}, [ALONE], f"it requests 1 CPU, 0.5 x, and {ONE} 2 CPU, 0 x; {WAITS}"),
    "many CPUs": ({"num_cpus": 1000}, [ALONE, LARGE], f"it requests 1000 CPU, and {TWO} 64 CPU; {WAITS}"),
    "memory": (
        {"num_cpus": 0, "memory": 8 * 2**30},
        [ALONE, LARGE],
        f"it requests 8 GiB of memory, and {TWO} 4 GiB of memory; {WAITS}",
    ),
    "never together on one node": (
        {"num_gpus": 1, "memory": 2 * 2**30},
        [ALONE, LARGE],
        f"it requests 1 CPU, 1 GPU, 2 GiB of memory, and {TWO} 64 CPU, 1 GPU, 4 GiB of memory; {WAITS}",
    ),
    "an accelerator": (
        {"accelerator_type": "H100"},
        [ALONE, LARGE],
        f"it requests 1 CPU, an accelerator of type H100, and {TWO} 64 CPU, no accelerator of type H100; {WAITS}",
    ),
    "a label": (
        {"label_selector": {"zone": "c"}},
        [ALONE, LARGE],
        f"it requests 1 CPU and the labels {{'zone': 'c'}}, and {TWO} 64 CPU; {WAITS}",
    ),
    "a node that is too small": (
        {"num_cpus": 3, "scheduling_strategy": {"kind": "node", "node_id": "n1", "soft": False}},
        [ALONE, LARGE],
        f"it requests 3 CPU, and node n1 does not have that; that node has 2 CPU; {WAITS}",
    ),
    "a node that is gone": (
        {"scheduling_strategy": {"kind": "node", "node_id": "n9", "soft": False}},
        [ALONE],
        "it requests node n9, which is not alive in this cluster",
    ),
    "no node at all": ({}, [], f"it requests 1 CPU, and no node of the cluster has that; "
                               f"the most that one of its 0 nodes has is 0 CPU; {WAITS}"),
}  # fmt: skip

FITS: dict[str, tuple[dict[str, Any], str]] = {
    "a CPU": ({}, f"it requests 1 CPU; 0.5 CPU of the cluster is free now; {BUSY}"),
    "nothing": ({"num_cpus": 0}, f"it requests no resources; everything of the cluster is free now; {BUSY}"),
    "a runtime_env": (
        {"runtime_env": {"pip": ["x"]}},
        "it requests 1 CPU; 0.5 CPU of the cluster is free now; it waits until its runtime_env is set up, or until "
        "other steps, tasks and actors release what it needs",
    ),
    "a preferred node": (
        {"scheduling_strategy": {"kind": "node", "node_id": "n9", "soft": True}},
        f"it requests 1 CPU; 0.5 CPU of the cluster is free now; {BUSY}",
    ),
    "a spread": ({"scheduling_strategy": "SPREAD"}, f"it requests 1 CPU; 0.5 CPU of the cluster is free now; {BUSY}"),
}


@pytest.mark.parametrize(("options", "nodes", "text"), CASES.values(), ids=CASES)
def test_reason_names_what_no_node_has(options: dict[str, Any], nodes: list[ClusterNode], text: str) -> None:
    assert wait_reason(options, nodes, {"CPU": 0.5}) == WaitReason(text, fits=False)


@pytest.mark.parametrize(("options", "text"), FITS.values(), ids=FITS)
def test_reason_names_what_is_free(options: dict[str, Any], text: str) -> None:
    assert wait_reason(options, [ALONE, LARGE], {"CPU": 0.5}) == WaitReason(text, fits=True)


@pytest.mark.parametrize(
    ("condition", "fits"),
    [("a", True), ("b", True), ("!a", True), ("in(c, b)", True), ("in(c,d)", False), ("!in(a,b)", False), ("", False)],
)
def test_label_conditions_are_those_of_ray(condition: str, fits: bool) -> None:
    options = {"label_selector": {"zone": condition}}
    assert wait_reason(options, [ALONE, LARGE], {}).fits == fits
    assert wait_reason({**options, "fallback_strategy": [{}]}, [ALONE], {}).fits


def test_demand_has_no_resource_with_amount_zero() -> None:
    assert demand_of({"num_cpus": 0, "num_gpus": 0, "resources": {"x": 2}}) == {"x": 2}


# --- when it is logged and shown ---


@pytest.fixture
def waits_at_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(engine_leases, "STALL_TIMEOUT", 0.0)
    monkeypatch.setattr(engine_leases, "EXPLAIN_EVERY", 50)
    monkeypatch.setattr(engine_leases, "PATIENT_CHECKS", 200)
    caplog.set_level(logging.WARNING)


async def checks(number: int) -> None:
    """Let at least this number of checks for stalled pools run."""
    for _ in range(number):
        await settle()


@pytest.mark.usefixtures("waits_at_once")
async def test_reason_is_logged_once_and_shown_until_a_worker_comes(caplog: pytest.LogCaptureFixture) -> None:
    fixture = LeaseFixture(slots=1, wait_reason=WaitReason("no node has that", fits=False))
    await fixture.start("a", "b", "c", num_gpus=1)
    assert fixture.leases.wait_reason(key("a")) == ""
    await checks(100)
    assert caplog.messages == ["workflow 'w': step 'a' has no worker yet: no node has that; 3 steps wait for this"]
    assert [fixture.leases.wait_reason(key(each)) for each in "abx"] == ["no node has that", "no node has that", ""]
    assert await fixture.worker(0).ask() == ["a"]
    assert fixture.leases.wait_reason(key("a")) == ""
    await checks(100)
    assert fixture.leases.wait_reason(key("b")) == ""
    assert len(caplog.messages) == 1


@pytest.mark.usefixtures("waits_at_once")
async def test_logged_waits_are_listed_by_run_until_a_worker_comes() -> None:
    fixture = LeaseFixture(slots=1, wait_reason=WaitReason("no node has that. " * 90, fits=False))
    await fixture.start("a", "b", "c", num_gpus=1)
    assert fixture.leases.waits() == {}
    await checks(100)
    (waits,) = fixture.leases.waits().items()
    assert waits[0] == "run"
    assert waits[1].startswith("step a and 2 other steps have no worker: no node has that. ")
    assert waits[1].endswith(" ...")
    assert len(waits[1]) <= engine_leases.SHOWN_WAIT
    assert await fixture.worker(0).ask() == ["a"]
    await checks(100)
    assert fixture.leases.waits() == {}


@pytest.mark.usefixtures("waits_at_once")
async def test_waits_of_many_runs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_leases, "MAX_SHOWN_WAITS", 2)
    fixture = LeaseFixture(slots=1, wait_reason=WaitReason("no node has that", fits=False))
    for number in range(4):
        fixture.address = RunAddress("memory://", f"w{number}", 1, f"run-{number}")
        await fixture.start("a", num_gpus=1)
    await checks(100)
    expected = "step a has no worker: no node has that"
    assert fixture.leases.waits() == {"run-0": expected, "run-1": expected}


@pytest.mark.usefixtures("waits_at_once")
async def test_step_that_fits_waits_longer_before_it_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixture = LeaseFixture(slots=1)
    monkeypatch.setattr(engine_leases, "PATIENT_CHECKS", 10**9)
    await fixture.start("a")
    await checks(100)
    assert fixture.leases.wait_reason(key("a")) == "it waits"
    assert caplog.messages == []
    monkeypatch.setattr(engine_leases, "PATIENT_CHECKS", 200)
    await checks(300)
    assert caplog.messages == ["workflow 'w': step 'a' has no worker yet: it waits"]


@pytest.mark.usefixtures("waits_at_once")
async def test_steps_that_wait_for_busy_workers_are_not_explained(caplog: pytest.LogCaptureFixture) -> None:
    fixture = LeaseFixture(slots=1, wait_reason=WaitReason("no node has that", fits=False))
    await fixture.start("a", "b")
    assert await fixture.worker(0).ask() == ["a"]
    await checks(100)
    assert fixture.leases.wait_reason(key("b")) == ""
    assert caplog.messages == []
