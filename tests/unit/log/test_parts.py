"""A large part of a value is one blob, whatever values it is part of. Small values keep their form."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow.errors import CorruptLogError, NewerFormatError
from workflow.log import parts, values
from workflow.log.blobs import Blobs
from workflow.log.keys import RunPaths
from workflow.log.parts import PartList, StoredPart
from workflow.log.pickled import OUT_OF_BAND_LIMIT, Fetched, Pickled
from workflow.store.memory import MemoryStore

PATHS = RunPaths("w", 1, "u" * 32)
LIMIT = 20
SIZE = 2 * OUT_OF_BAND_LIMIT
ARRAY = np.random.default_rng(1).random(SIZE // 8)
BYTES = ARRAY.tobytes()[8:]
TEXT = "ä" * (SIZE // 2)
FRAME = pd.DataFrame({"a": ARRAY})
TABLE = pa.table({"a": ARRAY})
ROWS = [{"id": i, "name": f"row {i}", "score": i / 7} for i in range(150_000)]


@dataclasses.dataclass
class Model:
    weights: Any
    name: str


SHARED: dict[str, Callable[[int], Any]] = {
    "array": lambda i: (i, ARRAY),
    "array in a dict": lambda i: ({"i": i, "x": ARRAY}, "other"),
    "array in a dataclass": lambda i: (Model(ARRAY, f"model {i}"),),
    "array in a tuple with others": lambda i: ((b"x" * i, ARRAY, [i]),),
    "array in different places": lambda i: ([i, ARRAY] if i % 2 else {"x": Model(ARRAY, "m")},),
    "view of the same bytes": lambda i: (i, ARRAY.reshape(2, -1)),
    "bytes": lambda i: (i, BYTES),
    "bytearray": lambda i: (i, {"b": bytearray(BYTES)}),
    "text": lambda i: ([TEXT], i),
    "frame": lambda i: (i, FRAME),
    "frame in a list": lambda i: ([i, FRAME],),
    "table": lambda i: {"t": TABLE, "i": i},
    "slice with gaps": lambda i: (i, ARRAY[::2], "x" * i),
}


def plain(obj: Any) -> None:
    """Replaces nothing."""


def no_mark(kind: str, name: str) -> Any:
    raise AssertionError(f"no mark was expected: {kind} {name}")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def blobs(store: MemoryStore) -> Blobs:
    return Blobs(store, PATHS)


def bytes_in(store: MemoryStore) -> int:
    return sum(info.size for info in store.list(""))


def parts_in(store: MemoryStore) -> list[str]:
    return [info.key for info in store.list("") if info.size >= OUT_OF_BAND_LIMIT]


@pytest.mark.parametrize("make", SHARED.values(), ids=SHARED)
def test_a_large_part_of_many_values_is_stored_once(
    blobs: Blobs, store: MemoryStore, make: Callable[[int], Any]
) -> None:
    kept = [blobs.store_value(values.dumps(make(i), plain)) for i in range(20)]
    assert bytes_in(store) < 1.1 * SIZE
    assert len(parts_in(store)) == 1
    for i in (0, 19):
        found = values.loads(blobs.load_value(kept[i]), no_mark)
        assert pickled(found) == pickled(values.loads(values.dumps(make(i), plain), no_mark))


def pickled(value: Any) -> bytes:
    data = values.dumps(value, plain)
    return data if isinstance(data, bytes) else b"".join(data)


@pytest.mark.parametrize("make", [lambda i: (ROWS, i), lambda i: (i, ROWS), lambda i: {"rows": ROWS, "part": f"p{i}"}])
def test_equal_beginnings_of_large_containers_are_stored_once(
    blobs: Blobs, store: MemoryStore, make: Callable[[int], Any]
) -> None:
    one = len(values.dumps(make(0), plain))
    kept = [blobs.store_value(values.dumps(make(i), plain)) for i in range(10)]
    assert bytes_in(store) < one + 10 * 2.5 * OUT_OF_BAND_LIMIT
    assert values.loads(blobs.load_value(kept[9]), no_mark) == make(9)


def test_results_objects_and_functions_share_parts(blobs: Blobs, store: MemoryStore) -> None:
    def function() -> Any:
        return ARRAY

    blobs.store_value(values.dumps([ARRAY], plain))
    name = blobs.put(values.dumps(function, plain))
    blobs.put(values.dumps({"content": ARRAY}, plain))
    assert len(parts_in(store)) == 1
    assert np.array_equal(values.loads(blobs.fetch(name), no_mark)(), ARRAY)


SMALL: dict[str, Callable[[], Any]] = {
    "number": lambda: 1,
    "large for a record": lambda: b"x" * 500_000,
    "array just below the size": lambda: np.zeros(OUT_OF_BAND_LIMIT - 200_000, dtype=np.uint8),
    "many small objects": lambda: list(range(500_000)),
}


@pytest.mark.parametrize("make", SMALL.values(), ids=SMALL)
def test_a_value_without_a_large_part_is_one_plain_pickle(
    blobs: Blobs, store: MemoryStore, make: Callable[[], Any]
) -> None:
    data = values.dumps(make(), plain)
    name = blobs.put(data)
    whole = pickled(make())
    assert name == hashlib.sha256(whole).hexdigest()
    assert {info.key for info in store.list("")} == {PATHS.blob(name)}
    assert blobs.get(name) == whole
    assert whole[:2] == b"\x80\x05"


def test_a_part_that_exists_is_not_sent_again(
    blobs: Blobs, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs.store_value(values.dumps([ARRAY], plain))
    sent: list[int] = []
    create = MemoryStore.create

    def recorded(it: MemoryStore, key: str, data: Any, put_id: str) -> bool:
        sent.append(len(data))
        return create(it, key, data, put_id)

    monkeypatch.setattr(MemoryStore, "create", recorded)
    blobs.store_value(values.dumps({"x": ARRAY}, plain))
    assert len(sent) == 1
    assert sent[0] < 10_000


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "shorter": lambda data: data[:-1],
    "longer": lambda data: data + b"\0",
    "empty": lambda data: b"",
    "changed": lambda data: bytes([data[0] ^ 1]) + data[1:],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_part_is_reported_with_its_key(blobs: Blobs, store: MemoryStore, damage: Any) -> None:
    kept = blobs.store_value(values.dumps([ARRAY], plain))
    (key,) = parts_in(store)
    store.overwrite(key, damage(store.get(key) or b""))
    with pytest.raises(CorruptLogError, match=f"{key} is damaged: the SHA-256 of its") as caught:
        blobs.load_value(kept)
    assert caught.value.fields["key"] == key


def test_a_missing_part_is_reported_with_its_key(blobs: Blobs, store: MemoryStore) -> None:
    kept = blobs.store_value(values.dumps([ARRAY], plain))
    (key,) = parts_in(store)
    store.delete(key)
    with pytest.raises(CorruptLogError, match=f"{key} is missing"):
        blobs.load_value(kept)


@pytest.mark.parametrize(
    ("old", "new", "unknown"),
    [
        (b"rwf-parts-1 ", b"rwf-parts-2 ", "the format 'rwf-parts-2' of a list of parts"),
        (b"rwf-parts-1 ", b"rwf-parts-11 ", "the format 'rwf-parts-11'"),
        (b'"size"', b'"zize"', "the field 'zize' of a list of parts"),
    ],
)
def test_a_newer_list_of_parts_is_reported(
    blobs: Blobs, store: MemoryStore, old: bytes, new: bytes, unknown: str
) -> None:
    kept = blobs.store_value(values.dumps([ARRAY], plain))
    changed = blobs.get(kept.blob).replace(old, new)
    name = blobs.put(changed)
    with pytest.raises(NewerFormatError, match=re.escape(unknown)) as caught:
        blobs.fetch(name)
    assert caught.value.fields["key"] == PATHS.blob(name)


def test_a_value_that_looks_like_a_list_of_parts_is_a_value(blobs: Blobs) -> None:
    text = PartList(10, [StoredPart(0, 10, "0" * 64)], b"").encoded()
    for value in (text, text * 100_000, text.decode()):
        assert values.loads(blobs.load_value(blobs.store_value(values.dumps(value, plain))), no_mark) == value
    assert blobs.get(blobs.put(text)) == text


def test_a_list_of_parts_is_read_as_it_was_written() -> None:
    listed = PartList(20, [StoredPart(2, 5, "a" * 64), StoredPart(7, 10, "b" * 64)], b"\x80\x05end")
    data = memoryview(listed.encoded())
    assert parts.is_list(data)
    found = parts.decoded(data, "key")
    assert (found.size, list(found.parts), bytes(found.inline)) == (20, listed.parts, listed.inline)
    assert list(found.gaps()) == [(0, 2), (7, 0), (17, 3)]
    first, _, rest = bytes(data).partition(b"\n")
    size = int(first.removeprefix(b"rwf-parts-1 "))
    assert json.loads(rest[:size]) == {"size": 20, "parts": [[2, 5, "a" * 64], [7, 10, "b" * 64]]}


@pytest.mark.parametrize(
    "listed", [PartList(19, [StoredPart(2, 5, "a")], b"x"), PartList(3, [StoredPart(0, 5, "a")], b"")]
)
def test_a_list_whose_sizes_do_not_fit_is_damaged(listed: PartList) -> None:
    with pytest.raises(CorruptLogError, match="key is damaged: its parts do not fill"):
        parts.decoded(memoryview(listed.encoded()), "key")


def test_a_part_is_read_into_its_place(blobs: Blobs, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value is in memory once while it is loaded: only its list of parts is in memory besides."""
    kept = blobs.store_value(values.dumps([ARRAY, BYTES], plain))
    allocated: list[int] = []
    allocate = Fetched.allocate

    def recorded(it: Fetched, size: int) -> memoryview:
        allocated.append(size)
        return allocate(it, size)

    monkeypatch.setattr(Fetched, "allocate", recorded)
    blobs.load_value(kept)
    assert len(allocated) == 2
    assert allocated[1] == kept.size
    assert allocated[0] < 10_000


def test_parts_of_small_pieces_become_larger() -> None:
    piece = bytes(OUT_OF_BAND_LIMIT // 4)
    found = Pickled([piece] * 400)
    sizes = [len(part) // OUT_OF_BAND_LIMIT for part in found.parts]
    assert sizes == [1] * 16 + [2] * 16 + [4] * 13
    assert sum(map(len, found.parts)) == len(found) == 400 * len(piece)


@given(st.lists(st.integers(0, 3 * LIMIT), max_size=40), st.integers(1, 10 * LIMIT))
@settings(deadline=None)
def test_any_pickle_is_fetched_as_it_was_stored(sizes: list[int], split_from: int) -> None:
    pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
    store = MemoryStore()
    with (
        mock.patch("workflow.log.pickled.OUT_OF_BAND_LIMIT", LIMIT),
        mock.patch("workflow.log.blobs.OUT_OF_BAND_LIMIT", LIMIT),
        mock.patch("workflow.log.pickled.SPLIT_FROM", split_from),
    ):
        name = Blobs(store, PATHS).put(Pickled(pieces))
        again = Blobs(store, PATHS).put(Pickled(pieces))
    assert name == again
    assert Blobs(store, PATHS).fetch(name).view == b"".join(pieces)


def test_a_large_piece_is_a_part_of_its_own() -> None:
    small, large = bytes(100), bytes(OUT_OF_BAND_LIMIT)
    found = Pickled([small, small, large, large, small])
    assert [len(part) for part in found.parts] == [200, len(large), len(large), 100]
