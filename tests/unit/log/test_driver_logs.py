"""The logs of drivers are stored with their run. They are deleted and collected with it."""

from __future__ import annotations

import pytest

from tests.support.managers import Clock
from workflow import requests
from workflow.garbage import collect
from workflow.log import keys, registry
from workflow.model.records import Tombstone
from workflow.model.status import WorkflowStatus
from workflow.reading import read_driver_logs
from workflow.requests import Requester, store_driver_log
from workflow.store.memory import MemoryStore

ID = "trip"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(clock=clock)


def keys_of_logs(store: MemoryStore) -> list[str]:
    found = [(info.key, keys.run_key(info.key)) for info in store.list("")]
    return [name for name, key in found if key is not None and key.kind == keys.DRIVERS]


def test_logs_of_all_attempts_are_read_oldest_first(store: MemoryStore, clock: Clock) -> None:
    for attempt in (2, 10):
        key = store_driver_log(store, ID, 1, "run-1", f"rwf-u-{attempt}", f"größer {attempt}".encode())
        assert key.endswith(f"/runs/1-run-1/drivers/rwf-u-{attempt}")
        clock.now += 1
    store_driver_log(store, ID, 2, "run-2", "rwf-v-1", b"of another run")
    assert list(read_driver_logs(store, ID, 1).items()) == [("rwf-u-2", "größer 2"), ("rwf-u-10", "größer 10")]
    assert read_driver_logs(store, "unknown") == {}


def test_logs_of_the_newest_run_are_read_by_default(store: MemoryStore) -> None:
    for number in (1, 2):
        registry.register(store, Tombstone(ID, number, WorkflowStatus.CANCELED, "Canceled", 1.0))
        store_driver_log(store, ID, number, f"run-{number}", "rwf-u-1", str(number).encode())
    assert read_driver_logs(store, ID) == {"rwf-u-1": "2"}


def test_stored_log_is_never_replaced(store: MemoryStore) -> None:
    store_driver_log(store, ID, 1, "run-1", "rwf-u-1", b"first")
    store_driver_log(store, ID, 1, "run-1", "rwf-u-1", b"second")
    assert read_driver_logs(store, ID) == {"rwf-u-1": "first"}


def test_logs_are_deleted_with_their_run(store: MemoryStore) -> None:
    registry.register(store, Tombstone(ID, 1, WorkflowStatus.FAILED, "EntrypointInvalid", 1.0))
    store_driver_log(store, ID, 1, "run-1", "rwf-u-1", b"text")
    requests.delete_run(store, ID, run_number=1, requester=Requester("", 0, "a user"))
    assert keys_of_logs(store) == []


def test_log_that_is_stored_after_the_deletion_is_collected(store: MemoryStore) -> None:
    registry.register(store, Tombstone(ID, 1, WorkflowStatus.CANCELED, "Deleted", 1.0))
    registry.register(store, Tombstone(ID, 2, WorkflowStatus.CANCELED, "Deleted", 1.0))
    store_driver_log(store, ID, 1, "run-1", "rwf-u-1", b"text")
    assert collect(store, grace=0).runs == 1
    assert keys_of_logs(store) == []
