"""Large values are stored and loaded without copies, completely or not at all. Earlier forms can still be read."""

from __future__ import annotations

import io
import pickle
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from workflow.errors import CorruptLogError, InvalidInputError, StoreUnavailableError
from workflow.log import values
from workflow.log.blobs import Blobs
from workflow.log.keys import RunPaths
from workflow.log.pickled import OUT_OF_BAND_LIMIT, Fetched, Pickled
from workflow.store.folder import FolderStore
from workflow.store.retrying import RetryingStore
from workflow.testing import FailingStore, MemoryStore

PATHS = RunPaths("w", 1, "u" * 32)
MANY = 3 * OUT_OF_BAND_LIMIT
LARGE: dict[str, Callable[[], Any]] = {
    "bytes": lambda: b"x" * MANY,
    "bytes larger than one release to the system": lambda: bytes(range(256)) * 40_000,
    "bytearray": lambda: bytearray(b"x" * MANY),
    "text": lambda: "aü" * MANY,
    "array": lambda: np.arange(MANY),
    "array of bytes, of an odd size": lambda: np.arange(MANY + 3, dtype=np.uint8),
    "two dimensions": lambda: np.arange(MANY).reshape(3, -1),
    "Fortran's order": lambda: np.asfortranarray(np.arange(MANY).reshape(3, -1)),
    "array with holes": lambda: np.arange(2 * MANY)[::2],
    "dates": lambda: np.arange(MANY).astype("datetime64[s]"),
    "records": lambda: np.zeros(MANY, dtype=[("a", "i4"), ("b", "f8")]),
    "objects": lambda: np.array(["text", 1, None] * 500_000, dtype=object),
    "frame": lambda: pd.DataFrame({"a": np.arange(MANY), "b": np.ones(MANY), "c": ["x"] * MANY}),
    "table": lambda: pa.table({"a": np.arange(MANY), "b": ["x"] * MANY}),
    "many small objects": lambda: [(number, str(number)) for number in range(200_000)],
    "many small arrays": lambda: [np.full(1_000, number) for number in range(500)],
    "large, small and empty together": lambda: {
        "large": [np.arange(MANY), b"y" * MANY, np.arange(MANY + 1, dtype=np.int8)],
        "small": (np.arange(3), b"z", 1),
        "empty": np.zeros((0, 4)),
    },
}
SMALL: dict[str, Callable[[], Any]] = {
    "number": lambda: 1,
    "empty array": lambda: np.zeros(0),
    "small array": lambda: np.arange(1_000),
    "array just below the size": lambda: np.zeros(OUT_OF_BAND_LIMIT - 200_000, dtype=np.uint8),
}


def plain(obj: Any) -> None:
    """Replaces nothing."""


def no_mark(kind: str, name: str) -> Any:
    raise AssertionError(f"no mark was expected: {kind} {name}")


def same(one: Any, other: Any) -> bool:
    """Equal all through, types and the order of arrays' dimensions too."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.isfortran(one) == np.isfortran(other) and np.array_equal(one, other)
    if isinstance(one, (pd.DataFrame, pa.Table)):
        return bool(one.equals(other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def blobs(store: MemoryStore) -> Blobs:
    return Blobs(store, PATHS)


@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE)
def test_a_large_value_is_loaded_equal(blobs: Blobs, make: Callable[[], Any]) -> None:
    data = values.dumps(make(), plain)
    assert isinstance(data, Pickled)
    kept = blobs.store_value(data)
    assert (kept.inline, kept.size) == (None, len(data))
    assert same(values.loads(blobs.load_value(kept), no_mark), make())
    assert same(values.loads(data, no_mark), make())


@pytest.mark.parametrize("make", SMALL.values(), ids=SMALL)
def test_a_small_value_is_a_plain_pickle(blobs: Blobs, make: Callable[[], Any]) -> None:
    data = values.dumps(make(), plain)
    assert isinstance(data, bytes)
    assert same(pickle.loads(data), make())
    assert same(values.loads(blobs.load_value(blobs.store_value(data)), no_mark), make())


@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE)
def test_a_plain_pickle_of_a_large_value_is_loaded(blobs: Blobs, make: Callable[[], Any]) -> None:
    data = cloudpickle.dumps(make(), protocol=5)
    assert same(values.loads(blobs.load_value(blobs.store_value(data)), no_mark), make())


def test_arrays_stay_writeable_or_read_only(blobs: Blobs) -> None:
    frozen = np.arange(MANY)
    frozen.flags.writeable = False
    free, still_frozen = values.loads(
        blobs.load_value(blobs.store_value(values.dumps([np.arange(MANY), frozen], plain))), no_mark
    )
    free[0] = 7
    assert free[0] == 7
    assert not still_frozen.flags.writeable
    assert free.ctypes.data % 64 == still_frozen.ctypes.data % 64 == 0


def test_each_load_returns_a_value_of_its_own(blobs: Blobs) -> None:
    kept = blobs.store_value(values.dumps(np.zeros(MANY), plain))
    one, other = (values.loads(blobs.load_value(kept), no_mark) for _ in range(2))
    one[:] = 1
    assert not other.any()


def test_marks_work_in_large_values(blobs: Blobs) -> None:
    class Marked:
        pass

    value = [np.arange(MANY), Marked(), b"x" * MANY]
    data = values.dumps(value, lambda obj: values.mark("thing", "x") if isinstance(obj, Marked) else None)
    assert values.loads(blobs.load_value(blobs.store_value(data)), lambda kind, name: f"{kind} {name}")[1] == "thing x"


COPYLESS: dict[str, Callable[[], Any]] = {
    "bytes": lambda: bytes(32 * OUT_OF_BAND_LIMIT),
    "bytearray": lambda: bytearray(32 * OUT_OF_BAND_LIMIT),
    "array": lambda: np.zeros(32 * OUT_OF_BAND_LIMIT, dtype=np.uint8),
    "both, nested": lambda: {
        "a": [np.zeros(16 * OUT_OF_BAND_LIMIT, dtype=np.uint8)],
        "b": (bytes(16 * OUT_OF_BAND_LIMIT),),
    },
}


@pytest.mark.parametrize("make", COPYLESS.values(), ids=COPYLESS)
def test_pickling_and_storing_make_no_second_copy(tmp_path: Any, make: Callable[[], Any]) -> None:
    blobs = Blobs(FolderStore(str(tmp_path)), PATHS)
    value = make()
    tracemalloc.start()
    try:
        blobs.store_value(values.dumps(value, plain))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4 * OUT_OF_BAND_LIMIT


def test_a_repeated_fetch_uses_the_same_memory() -> None:
    failing = FailingStore(MemoryStore())
    store = RetryingStore(failing, sleep=lambda seconds: None)
    store.create("key", b"x" * MANY, "put")
    failing.fail("fetch", times=2, after=True)
    fetched = Fetched()
    rooms = []

    def allocate(size: int) -> memoryview:
        rooms.append(np.frombuffer(fetched.allocate(size), np.uint8).ctypes.data)
        return fetched.allocate(size)

    assert store.fetch("key", allocate)
    assert len(rooms) == 3
    assert len(set(rooms)) == 1
    assert fetched.view == b"x" * MANY


class Explosive:
    """Counts how often it is unpickled."""

    went_off = 0

    def __reduce__(self) -> Any:
        return _go_off, ()


def _go_off() -> None:
    Explosive.went_off += 1


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[:-1],
    "empty": lambda data: b"",
    "longer": lambda data: data + b"\0",
    "flipped bit in the pickle": lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],
    "flipped bit in an array": lambda data: data[:-100] + bytes([data[-100] ^ 1]) + data[-99:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_blob_is_reported_and_never_unpickled(
    blobs: Blobs, store: MemoryStore, damage: Callable[[bytes], bytes]
) -> None:
    kept = blobs.store_value(values.dumps([Explosive(), np.arange(MANY)], plain))
    key = PATHS.blob(kept.blob)
    whole = blobs.get(kept.blob)
    store.overwrite(key, damage(whole))
    before = Explosive.went_off
    with pytest.raises(CorruptLogError, match=key) as caught:
        values.loads(blobs.load_value(kept), no_mark)
    assert caught.value.key == key  # type: ignore[attr-defined]
    assert Explosive.went_off == before
    store.overwrite(key, whole)
    values.loads(blobs.load_value(kept), no_mark)
    assert Explosive.went_off == before + 1


class ChangesWhileSent(MemoryStore):
    """A thread of the user's writes into the value between its naming and its sending."""

    def __init__(self, change: Callable[[], object]) -> None:
        super().__init__()
        self._change = change

    def create(self, key: str, data: Any, put_id: str) -> bool:
        self._change()
        return super().create(key, data, put_id)


def test_a_value_changed_while_it_is_stored_is_refused() -> None:
    array = np.zeros(MANY)
    store = ChangesWhileSent(lambda: array.__setitem__(MANY // 2, 1.0))
    with pytest.raises(InvalidInputError, match="changed while it was stored"):
        Blobs(store, PATHS).put(values.dumps(array, plain))
    assert list(store.list("")) == []


def test_missing_memory_is_not_reported_as_an_outage() -> None:
    with pytest.raises(MemoryError, match=f"no memory for a value of {1 << 60} bytes"):
        Fetched().allocate(1 << 60)


def test_an_outage_while_a_large_value_is_unpickled_is_reported(blobs: Blobs) -> None:
    def away(*_: Any) -> Any:
        raise StoreUnavailableError("no answer")

    data = values.dumps([b"x" * MANY, io.StringIO], lambda obj: values.mark("a", "b") if obj is io.StringIO else None)
    with pytest.raises(StoreUnavailableError):
        values.loads(blobs.load_value(blobs.store_value(data)), away)


def test_pieces_can_be_read_repeatedly() -> None:
    data = values.dumps([np.arange(MANY), b"x" * MANY], plain)
    assert isinstance(data, Pickled)

    def whole(pieces: Iterator[bytes | memoryview]) -> bytes:
        return b"".join(pieces)

    assert whole(iter(data)) == whole(iter(data))
    assert len(whole(iter(data))) == len(data)
