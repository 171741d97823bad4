"""What a driver makes of a run that is there: is it the same DAG, is it still that run, did anything move."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray

from tests.support import runs
from workflow.engine.driver import discovery
from workflow.engine.driver.client import Client, RunHandle
from workflow.engine.messages import RunAddress
from workflow.engine.worker import refs
from workflow.engine.worker.encoding import Encoder, ShapeEncoder
from workflow.entrypoint import _Printer
from workflow.errors import SupersededError, UnavailableError
from workflow.log import registry
from workflow.log.blobs import Blobs
from workflow.log.keys import RunPaths
from workflow.log.run_log import RunLog
from workflow.model import records as r
from workflow.model.graph import StepKind, StepNode, StepOptions
from workflow.model.status import WorkflowStatus
from workflow.reading import Follower
from workflow.store.memory import MemoryStore

PATHS = RunPaths("w", 1, "run-1")


class Enough(Exception):
    """Ends a wait."""


def joined(*values: Any) -> Any:
    """A step's function."""


def node(*args: Any, **fields: Any) -> StepNode:
    """A step."""
    return StepNode(joined, args, {}, StepOptions(), **fields)


def test_a_shape_is_that_of_the_stored_dag_whatever_the_values() -> None:
    first, asleep = node(1, name="first"), node(kind=StepKind.SLEEP, seconds=3.0)
    root = node([first, {"nested": node(first)}], b"x" * 100_000, (asleep, first))
    stored = Encoder(Blobs(MemoryStore(), PATHS), PATHS.folder).encode(root)
    assert ShapeEncoder().encode(root).shape() == stored.shape()
    assert ShapeEncoder().encode(node(root)).shape() != stored.shape()


def test_a_shape_is_found_without_looking_behind_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dataset:
        """Stands for Ray's."""

        def materialize(self) -> None:
            raise AssertionError("not for a shape")

    Dataset.__module__ = "ray.data.dataset"
    remembered = dict(refs._blob_of)
    monkeypatch.setattr(ray, "get", lambda ref: pytest.fail("not for a shape"))
    ref = ray.ObjectRef(b"\0" * 28)
    graph = ShapeEncoder().encode(node([ref, Dataset()], node(ref, name="first"), name="second"))
    assert [(step.step_id, step.parents) for step in graph.steps] == [("first", ()), ("second", ("first",))]
    assert refs._blob_of == remembered


def test_who_waits_for_a_run_gets_no_value_of_another_under_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore("waited")
    dag = runs.graph("a")
    registry.register(store, runs.created(dag))
    waited = RunHandle(
        SimpleNamespace(wait=SimpleNamespace(remote=lambda run: None)), RunAddress(store.url, "w", 1, "run-1")
    )
    client = Client(store)
    attached: list[str] = []

    def attach(named: r.Created) -> RunHandle:
        attached.append(named.run_uuid)
        return waited

    def lost(_: object) -> None:
        if attached:
            raise Enough  # it waits on, for the same run
        raise UnavailableError("its manager left")

    monkeypatch.setattr(discovery, "ask", lost)
    monkeypatch.setattr(client, "attach", attach)
    with pytest.raises(Enough):
        client.wait(waited)
    assert attached == ["run-1"]

    attached.clear()
    registry.register(store, r.Tombstone("w", 2, WorkflowStatus.CANCELED, "Deleted", 1.0))
    registry.register(store, runs.created(dag, run_number=3, run_uuid="run-3"))
    with pytest.raises(SupersededError, match=r"'w': the run that was waited for was deleted, and another"):
        client.wait(waited)
    assert attached == []


def test_a_look_at_a_run_in_which_nothing_moved_goes_through_no_steps(capsys: pytest.CaptureFixture[str]) -> None:
    store = MemoryStore("followed")
    created = runs.created(runs.graph("a b:a"))
    registry.register(store, created)
    follower, printer = Follower(store, "w"), _Printer()

    def look() -> list[str]:
        view = follower.poll()
        assert view is not None
        printer.show(view)
        return [line.split()[-2:][0] for line in capsys.readouterr().out.splitlines()]

    assert look() == ["READY", "WAITING"]
    printer._printed_phases.clear()  # whoever went through the steps would print them once more
    assert look() == []
    RunLog(store, created).append(1, [runs.started("a")])
    assert look() == ["RUNNING", "WAITING"]
