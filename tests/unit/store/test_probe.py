"""Tests of the probe: it names the property that a store lacks, and leaves no object in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from workflow.errors import StoreRefusedError, StoreUnavailableError
from workflow.store.port import Data, ObjectInfo
from workflow.store.probe import probe
from workflow.testing import FailingStore, MemoryStore


def whole(data: Data) -> bytes:
    return data if isinstance(data, bytes) else b"".join(data)


class Replaces(MemoryStore):
    """A server that ignores the condition of a PUT."""

    def create(self, key: str, data: Data, put_id: str) -> bool:
        self.overwrite(key, whole(data))
        return True


class RefusesNewKeys(MemoryStore):
    """One release of MinIO did this."""

    def create(self, key: str, data: Data, put_id: str) -> bool:
        return False


class LosesContent(MemoryStore):
    def get(self, key: str) -> bytes | None:
        return b"" if super().get(key) is not None else None


class ForgetsPutIds(MemoryStore):
    def create(self, key: str, data: Data, put_id: str) -> bool:
        new = self.head(key) is None
        return super().create(key, data, put_id) and new


class HasNoWinner(MemoryStore):
    def create(self, key: str, data: Data, put_id: str) -> bool:
        return super().create(key, data, put_id) and not whole(data).isdigit()


class HasSeveralWinners(MemoryStore):
    """Each of several concurrent creates seems to succeed."""

    def create(self, key: str, data: Data, put_id: str) -> bool:
        return super().create(key, data, put_id) or whole(data).isdigit()


class ReadsALoser(MemoryStore):
    def get(self, key: str) -> bytes | None:
        data = super().get(key)
        return b"loser" if data and data.isdigit() else data


class ListsLate(MemoryStore):
    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        return iter(list(super().list(prefix, start_after))[:-1])


class ListsInAnyOrder(MemoryStore):
    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        return iter(list(super().list(prefix, start_after))[::-1])


class ListsFromTheBeginning(MemoryStore):
    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        return super().list(prefix)


class HasNoAges(MemoryStore):
    def head(self, key: str) -> ObjectInfo | None:
        return None


class KeepsRemovedObjects(MemoryStore):
    def delete(self, key: str) -> None:
        """Do nothing."""


MISSING_PROPERTIES: dict[type[MemoryStore], str] = {
    Replaces: "create never replaces an object",
    RefusesNewKeys: "a new key can be created",
    LosesContent: "a created object reads back",
    ForgetsPutIds: "an object keeps its put id",
    HasNoWinner: "exactly one of several concurrent creates succeeds (0 of 8 did)",
    HasSeveralWinners: "exactly one of several concurrent creates succeeds (8 of 8 did)",
    ReadsALoser: "readers see the winner of several concurrent creates",
    ListsLate: "a list shows new objects at once and in order",
    ListsInAnyOrder: "a list shows new objects at once and in order",
    ListsFromTheBeginning: "a list can start after a key",
    HasNoAges: "it returns the age of an object",
    KeepsRemovedObjects: "a removed object is gone",
}


@pytest.mark.parametrize(("kind", "text"), MISSING_PROPERTIES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_probe_names_the_missing_property(kind: type[MemoryStore], text: str) -> None:
    store = kind("lacking")
    with pytest.raises(StoreRefusedError) as refusal:
        probe(store)
    assert f"cannot use the store memory://lacking: it lacks the property that {text}" in str(refusal.value)
    assert "docs/stores.md" in str(refusal.value)
    if kind is not KeepsRemovedObjects:
        assert list(MemoryStore.list(store, "")) == []


@pytest.mark.parametrize("method", ["create", "get", "list", "head", "delete"])
@pytest.mark.parametrize("make", [StoreUnavailableError, StoreRefusedError], ids=["unavailable", "refused"])
def test_probe_passes_on_errors_of_the_store(method: str, make: Callable[[str], Exception]) -> None:
    inner = MemoryStore()
    store = FailingStore(inner)
    store.fail(method, error=make("fault of the test"))
    with pytest.raises((StoreUnavailableError, StoreRefusedError), match=r"^fault of the test$"):
        probe(store)
    if method != "delete":
        assert list(inner.list("")) == []
