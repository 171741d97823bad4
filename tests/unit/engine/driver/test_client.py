"""A driver compares the DAG of an existing run, notices that a run was replaced, and prints only what changed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray

from tests.support import runs
from workflow.engine.driver import discovery
from workflow.engine.driver.client import Client, RunHandle, RunOptions
from workflow.engine.messages import RunAddress
from workflow.engine.worker import refs
from workflow.engine.worker.caches import SharedCache
from workflow.engine.worker.encoding import Encoder, ShapeEncoder
from workflow.engine.worker.run_values import RunValues
from workflow.entrypoint import _Printer
from workflow.errors import OwnerLostError, StoreRefusedError, SupersededError, UnavailableError
from workflow.log import liveness, registry
from workflow.log.keys import RunPaths
from workflow.log.run_log import RunLog
from workflow.model import records as r
from workflow.model.graph import StepKind, StepNode, StepOptions
from workflow.model.status import WorkflowStatus
from workflow.reading import Follower
from workflow.store.memory import MemoryStore

PATHS = RunPaths("w", 1, "run-1")


class StopWaitingError(Exception):
    """Ends a wait in a test."""


def joined(*values: Any) -> Any:
    """Return the function of each step."""


def node(*args: Any, **fields: Any) -> StepNode:
    """Compose a step."""
    return StepNode(joined, args, {}, StepOptions(), **fields)


def test_shape_of_a_composed_dag_equals_that_of_the_stored_dag() -> None:
    first, asleep = node(1, name="first"), node(kind=StepKind.SLEEP, seconds=3.0)
    root = node([first, {"nested": node(first)}], b"x" * 100_000, (asleep, first))
    stored = Encoder(RunValues(MemoryStore(), PATHS)).encode(root)
    assert ShapeEncoder().encode(root).shape() == stored.shape()
    assert ShapeEncoder().encode(node(root)).shape() != stored.shape()


def test_shape_is_found_without_fetching_references(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dataset:
        """A double of Ray's Dataset."""

        def materialize(self) -> None:
            raise AssertionError("a shape needs no content")

    Dataset.__module__ = "ray.data.dataset"
    monkeypatch.setattr(refs, "_blob_of", SharedCache(10))
    monkeypatch.setattr(ray, "get", lambda ref: pytest.fail("a shape needs no content"))
    ref = ray.ObjectRef(b"\0" * 28)
    graph = ShapeEncoder().encode(node([ref, Dataset()], node(ref, name="first"), name="second"))
    assert [(step.step_id, step.parents) for step in graph.steps] == [("first", ()), ("second", ("first",))]
    assert len(refs._blob_of) == 0


def test_waiting_for_a_replaced_run_raises_superseded(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore("waited")
    dag = runs.graph("a")
    registry.register(store, runs.created(dag))
    waited = RunHandle(
        SimpleNamespace(wait=SimpleNamespace(remote=lambda run: None)), RunAddress(store.url, "w", 1, "run-1")
    )
    client = Client(store)
    attached: list[str] = []

    def attach(created: r.Created) -> RunHandle:
        attached.append(created.run_uuid)
        return waited

    def lost(_: object, waits_for: object) -> None:
        if attached:
            raise StopWaitingError  # it still waits for the same run
        raise UnavailableError("the manager ended")

    monkeypatch.setattr(discovery, "ask", lost)
    monkeypatch.setattr(client, "attach", attach)
    with pytest.raises(StopWaitingError):
        client.wait(waited)
    assert attached == ["run-1"]

    attached.clear()
    registry.register(store, r.Tombstone("w", 2, WorkflowStatus.CANCELED, "Deleted", 1.0))
    registry.register(store, runs.created(dag, run_number=3, run_uuid="run-3"))
    with pytest.raises(SupersededError, match=r"'w': the run that was waited for was deleted, and another"):
        client.wait(waited)
    assert attached == []


def test_a_call_that_reads_never_continues_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner is lost while the call waits, and another manager of the cluster answers."""
    store = MemoryStore("w")
    created = runs.created(runs.graph("a"))
    registry.register(store, created)
    RunLog(store, created).begin()
    liveness.send_heartbeat(store, created.owner, 1)
    client = Client(store)

    def lost(_: object, waits_for: object) -> None:
        liveness.remove_heartbeat(store, created.owner)
        raise UnavailableError("the manager ended")

    monkeypatch.setattr(discovery, "find_owner", lambda owner, unresponsive: None)
    monkeypatch.setattr(discovery, "find_or_create", lambda url: SimpleNamespace(wait=SimpleNamespace(remote=str)))
    monkeypatch.setattr(discovery, "ask", lost)
    monkeypatch.setattr(client, "_claim", lambda *args, **options: pytest.fail("it claimed the run"))
    handle = client.observe(created)
    with pytest.raises(OwnerLostError, match=r"'w' is RESUMABLE: .* call workflow.resume\('w'\)"):
        client.wait(handle, resumes=False)
    with pytest.raises(OwnerLostError):
        client.observe(created)


def test_printer_skips_the_steps_of_an_unchanged_run(capsys: pytest.CaptureFixture[str]) -> None:
    store = MemoryStore("followed")
    created = runs.created(runs.graph("a b:a"))
    registry.register(store, created)
    follower, printer = Follower(store, "w"), _Printer()

    def printed_phases() -> list[str]:
        view = follower.poll()
        assert view is not None
        printer.show(view)
        return [line.split()[-2] for line in capsys.readouterr().out.splitlines()]

    assert printed_phases() == ["READY", "WAITING"]
    printer._printed_phases.clear()  # a printer that went through the steps would print them again
    assert printed_phases() == []
    runs.append(RunLog(store, created), [runs.started("a")])
    assert printed_phases() == ["RUNNING", "WAITING"]


def test_start_ends_if_the_manager_sees_another_store(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(MemoryStore("of the driver"))
    calls: list[str] = []

    def call_manager(options: Any, method: str, *_: r.Created) -> tuple[Any, r.Created]:
        calls.append(method)
        return None, runs.created(runs.graph("a"), run_uuid="in-the-store-of-the-manager")

    monkeypatch.setattr(client, "_call_manager", call_manager)
    monkeypatch.setattr(client, "_created", lambda *_: runs.created(runs.graph("a"), run_uuid="of-the-driver"))
    with pytest.raises(StoreRefusedError, match=r"'w': its manager found run 1 .* two different stores; use a folder"):
        client.start(node(1), "w", RunOptions())
    assert calls == ["show_store", "start"]


def test_start_gives_up_if_each_run_is_deleted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore("busy")
    client = Client(store)

    def call_manager(options: Any, method: str, *created: r.Created) -> tuple[Any, r.Tombstone | None]:
        if not created:
            return None, None
        tombstone = r.Tombstone("w", created[0].run_number, WorkflowStatus.CANCELED, "Deleted", 1.0)
        registry.register(store, tombstone)
        return None, tombstone

    monkeypatch.setattr(client, "_call_manager", call_manager)
    monkeypatch.setattr(client, "_created", lambda *given: runs.created(runs.graph("a"), run_number=given[-1]))
    with pytest.raises(UnavailableError, match=r"created and deleted a run under this id .* 100 attempts; try again"):
        client.start(node(1), "w", RunOptions())
