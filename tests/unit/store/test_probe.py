"""A store that lacks a property is refused by name of the property, and keeps nothing of the probe."""

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
    """What a PUT whose condition is ignored does."""

    def create(self, key: str, data: Data, put_id: str) -> bool:
        self.overwrite(key, whole(data))
        return True


class RefusesNewKeys(MemoryStore):
    """A release of MinIO did."""

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


class HasTwoWinners(MemoryStore):
    """Of any number of rivals everyone believes to have won."""

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


class KnowsNoAges(MemoryStore):
    def head(self, key: str) -> ObjectInfo | None:
        return None


class KeepsWhatWasRemoved(MemoryStore):
    def delete(self, key: str) -> None:
        """Nothing."""


LACKING: dict[type[MemoryStore], str] = {
    Replaces: "create never replaces an object",
    RefusesNewKeys: "a new key can be created",
    LosesContent: "what was created reads back",
    ForgetsPutIds: "an object keeps its put id",
    HasNoWinner: "of several creates at once exactly one goes through (0 of 8 did)",
    HasTwoWinners: "of several creates at once exactly one goes through (8 of 8 did)",
    ReadsALoser: "the winner of several creates is what is read",
    ListsLate: "a list shows at once what was created, in order",
    ListsInAnyOrder: "a list shows at once what was created, in order",
    ListsFromTheBeginning: "a list can start after a key",
    KnowsNoAges: "an object's age can be asked for",
    KeepsWhatWasRemoved: "a removed object is gone",
}


@pytest.mark.parametrize(("kind", "text"), LACKING.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_the_property_that_is_missing_is_named(kind: type[MemoryStore], text: str) -> None:
    store = kind("lacking")
    with pytest.raises(StoreRefusedError) as refusal:
        probe(store)
    assert f"the store memory://lacking cannot be used: it lacks the property that {text}" in str(refusal.value)
    assert "docs/stores.md" in str(refusal.value)
    if kind is not KeepsWhatWasRemoved:
        assert list(MemoryStore.list(store, "")) == []


@pytest.mark.parametrize("method", ["create", "get", "list", "head", "delete"])
@pytest.mark.parametrize("make", [StoreUnavailableError, StoreRefusedError], ids=["unavailable", "refused"])
def test_a_store_that_fails_is_not_said_to_lack_a_property(method: str, make: Callable[[str], Exception]) -> None:
    inner = MemoryStore()
    store = FailingStore(inner)
    store.fail(method, error=make("told to fail"))
    with pytest.raises((StoreUnavailableError, StoreRefusedError), match=r"^told to fail$"):
        probe(store)
    if method != "delete":
        assert list(inner.list("")) == []
