"""The proof that a process sees the store of a manager: what it costs, and what the errors state."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray

from workflow.engine.dispatch.pool import Cause
from workflow.engine.dispatch.ray_runner import cause_of, system_failure
from workflow.engine.messages import StoreWitness
from workflow.engine.worker import same_store
from workflow.errors import StoreRefusedError, StoreUnavailableError
from workflow.log import keys
from workflow.testing import FailingStore, MemoryStore

WITNESS = StoreWitness("/data/flows", "m1", "10.0.0.1 (head)")
HEARTBEAT = keys.heartbeat("m1")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FailingStore:
    """The store that this process sees."""
    seen = FailingStore(MemoryStore())
    monkeypatch.setattr(same_store, "shared_store", lambda url: seen)
    monkeypatch.setattr(same_store, "_proven", set())
    monkeypatch.setattr(same_store, "node_here", lambda: "10.0.0.2 (worker)")
    return seen


def never() -> None:
    raise AssertionError("the heartbeat is there")


def prove(show_again: Any = never) -> None:
    same_store.prove(WITNESS, show_again, "the worker")


def test_same_store_is_proven_by_one_request(store: FailingStore) -> None:
    store.overwrite(HEARTBEAT, b"{}")
    prove()
    store.delete(HEARTBEAT)
    prove()  # it is not read again
    assert same_store.is_proven("/data/flows", "m1")
    assert not same_store.is_proven("/data/flows", "m2")


def test_other_store_is_refused_with_both_nodes_and_remedy(store: FailingStore) -> None:
    asked: list[str] = []
    with pytest.raises(StoreRefusedError) as refused:
        prove(lambda: asked.append("again"))
    assert str(refused.value) == (
        "cannot use the store /data/flows: the worker on node 10.0.0.2 (worker) does not see there what the manager on "
        "node 10.0.0.1 (head) stored, so the address leads to two different stores; use a folder that all nodes mount "
        "at this path, for example over NFS, or a bucket (s3://bucket/prefix); docs/stores.md, section Several nodes"
    )
    assert asked == ["again"]
    assert not same_store.is_proven("/data/flows", "m1")


def test_heartbeat_that_was_removed_is_shown_again(store: FailingStore) -> None:
    prove(lambda: store.overwrite(HEARTBEAT, b"{}"))
    assert same_store.is_proven("/data/flows", "m1")


def test_other_server_has_another_remedy() -> None:
    witness = StoreWitness("s3://bucket?endpoint=http://localhost:9000", "m1", "head")
    assert "use an endpoint that leads to the same server" in same_store.different(witness, "the worker", "other")


@pytest.mark.parametrize(
    ("fields", "ending"),
    [({}, "no; go away"), ({"credentials": True}, "docs/stores.md, section Credentials")],
    ids=["other reason", "credentials"],
)
def test_refusal_names_the_process_and_the_node(store: FailingStore, fields: dict[str, Any], ending: str) -> None:
    store.fail("head", times=1, error=StoreRefusedError("no; go away", **fields))
    with pytest.raises(StoreRefusedError, match=r"^the worker on node 10\.0\.0\.2 \(worker\) cannot use the st") as e:
        prove()
    assert "/data/flows, which other processes can use: no; go away" in str(e.value)
    assert str(e.value).endswith(ending)


def test_worker_continues_while_the_store_is_unavailable(store: FailingStore, caplog: pytest.LogCaptureFixture) -> None:
    manager = SimpleNamespace(show_store=SimpleNamespace(remote=never))
    store.fail("head", times=1, error=StoreUnavailableError("away"))
    same_store.prove_worker(WITNESS, manager)
    assert "the worker on node 10.0.0.2 (worker) cannot use the store" in caplog.text
    assert not same_store.is_proven("/data/flows", "m1")


def test_refusal_of_a_worker_is_the_error_of_its_steps() -> None:
    refusal = StoreRefusedError("cannot use the store: another one", store="/data/flows")
    error = ray.exceptions.RayTaskError("serve", "its traceback", refusal).as_instanceof_cause()
    assert cause_of(error) is Cause.OPTIONS
    raised = system_failure("a", error)
    assert raised.system
    assert raised.error.kind == "workflow.errors.StoreRefusedError"
    assert raised.error.message == "cannot use the store: another one"
