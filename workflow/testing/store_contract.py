"""The contract that every store keeps, as tests: adapters, wrappers, and a store of your own.

Derive from `StoreContract` in a test module, give it a pytest fixture `store` (empty, and a new one for each test), and
pytest runs the contract against it:

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self):
            return MyStore(...)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from workflow.errors import StoreRefusedError
from workflow.store.port import Store

RIVALS = 8
ROUNDS = 20
ODD_KEYS = (
    "plain",
    "with space",
    "plus+and%25percent",
    "question?mark&amp",
    "a~tilde=equals",
    "..leading-dots",
    "ключ",
    "鍵",
    "🔑",
    "a/b/c/d/e/f/g/h",
    "x" * 255,
)
REFUSED_KEYS = (
    *("", "/", "a//b", "/a", "a/", ".", "..", "a/../b", "a/./b", "../outside"),
    *("nul\0", "new\nline", "half\ud800", "#own", "a/#own", "x" * 256, "x/" * 400 + "x"),
)


class StoreContract:
    """What the log relies on. Names of tests say the promise."""

    def test_a_created_object_reads_back(self, store: Store) -> None:
        """Create, get, head."""
        assert store.create("a/b", b"data", "put-1") is True
        assert store.get("a/b") == b"data"
        info = store.head("a/b")
        assert info is not None
        assert (info.key, info.size) == ("a/b", 4)
        assert 0 <= info.age < 3600

    def test_what_is_missing_is_none(self, store: Store) -> None:
        """Also below a folder that exists, below an object, and where a folder of keys is."""
        store.create("a/b/c", b"data", "put-1")
        for key in ("missing", "a", "a/b", "a/x", "a/b/c/d"):
            assert store.get(key) is None
            assert store.head(key) is None

    def test_create_never_replaces(self, store: Store) -> None:
        """The second writer is told, and what the first wrote stays."""
        assert store.create("key", b"first", "put-1") is True
        assert store.create("key", b"second", "put-2") is False
        assert store.get("key") == b"first"

    def test_the_same_put_again_is_known(self, store: Store) -> None:
        """A write that is tried again after its answer was lost is told that it won; its rivals are not."""
        assert store.create("key", b"first", "put-1") is True
        assert store.create("key", b"first", "put-1") is True
        assert store.create("key", b"first", "put-2") is False
        assert store.create("key", b"first", "put-1") is True

    def test_a_deleted_key_can_be_created_again(self, store: Store) -> None:
        """By whoever comes."""
        store.create("folder/key", b"first", "put-1")
        store.delete("folder/key")
        assert store.get("folder/key") is None
        assert store.create("folder/key", b"second", "put-2") is True
        assert store.get("folder/key") == b"second"

    def test_deleting_what_is_missing_does_nothing(self, store: Store) -> None:
        """Nor does it touch neighbours."""
        store.create("a/b", b"data", "put-1")
        for key in ("missing", "a/missing", "b/c", "a/b/c"):
            store.delete(key)
        assert store.get("a/b") == b"data"

    def test_overwrite_writes_in_any_case(self, store: Store) -> None:
        """Where there was nothing, and over what was there; the object counts as written then."""
        store.overwrite("beat", b"1")
        store.overwrite("beat", b"22")
        assert store.get("beat") == b"22"
        info = store.head("beat")
        assert info is not None
        assert info.size == 2
        assert store.create("beat", b"3", "put-1") is False

    def test_an_empty_object_is_an_object(self, store: Store) -> None:
        """Of size 0."""
        assert store.create("bell", b"", "put-1") is True
        assert store.create("bell", b"", "put-2") is False
        assert store.get("bell") == b""
        assert [(info.key, info.size) for info in store.list("")] == [("bell", 0)]

    def test_bytes_come_back_as_they_were(self, store: Store) -> None:
        """All of them, also where they are many."""
        data = bytes(range(256)) * 16_384 + b"\r\n\0"
        store.create("large", data, "put-1")
        assert store.get("large") == data
        info = store.head("large")
        assert info is not None
        assert info.size == len(data)

    def test_pieces_are_one_object(self, store: Store) -> None:
        """Empty ones and large ones too; sent again they are known as any other write."""
        pieces = Scattered(b"", bytes(range(256)) * 12_289, b"middle", memoryview(b"another" * 300_000)[3:], b"")
        expected = b"".join(pieces)
        for put_id, won in (("put-1", True), ("put-1", True), ("put-2", False)):
            assert store.create("large", pieces, put_id) is won
        assert store.get("large") == expected
        info = store.head("large")
        assert info is not None
        assert info.size == len(expected)
        assert store.create("empty", Scattered(), "put-1") is True
        assert store.get("empty") == b""

    def test_pieces_that_break_off_are_no_object(self, store: Store) -> None:
        """What failed on the way is not there, not even a part of it, and the key is free."""

        class Broken(Scattered):
            def __iter__(self) -> Iterator[bytes | memoryview]:
                yield bytes(len(self) - 1)
                raise EOFError("broke off")

        try:
            store.create("large", Broken(bytes(3_000_000)), "put-1")
        except EOFError:
            pass
        else:
            raise AssertionError("the pieces broke off, and nobody was told")
        assert store.get("large") is None
        assert list(store.list("")) == []
        assert store.create("large", Scattered(b"whole"), "put-1") is True

    def test_fetch_reads_into_the_callers_memory(self, store: Store) -> None:
        """Objects of any size; no memory is asked for where there is no object."""
        for key, data in {"empty": b"", "small": b"data", "large": bytes(range(256)) * 16_384 + b"end"}.items():
            store.create(key, data, "put-1")
            assert fetched(store, key) == data
        store.create("folder/key", b"", "put-1")
        for key in ("missing", "folder", "small/x"):
            assert fetched(store, key) is None

    def test_any_key_works(self, store: Store) -> None:
        """Of any characters but control characters."""
        for key in ODD_KEYS:
            assert store.create(key, key.encode(), "put-1") is True
            assert store.get(key) == key.encode()
        assert [info.key for info in store.list("")] == sorted(ODD_KEYS)
        for key in ODD_KEYS:
            store.delete(key)
        assert list(store.list("")) == []

    def test_keys_that_no_store_holds_are_refused(self, store: Store) -> None:
        """The same ones by every store, so that a run can be moved."""
        for key in REFUSED_KEYS:
            for call in _calls_with(store, key):
                assert _refused(call), key

    def test_list_is_in_order_of_bytes(self, store: Store) -> None:
        """Where a folder's name is the beginning of another, the `/` counts as a character like any other."""
        keys = ["a-b", "a.b", "a/b", "a/b-c", "a/bc/d", "a/b0", "a0", "aa", "b", "ä", "Z"]
        for key in keys:
            store.create(key, b"", "put-1")
        assert [info.key for info in store.list("")] == sorted(keys, key=str.encode)

    def test_a_prefix_is_text(self, store: Store) -> None:
        """Not a folder."""
        for key in ("a/b", "a/bc", "a/bd/e", "a/c", "ab"):
            store.create(key, b"", "put-1")
        assert [info.key for info in store.list("a/b")] == ["a/b", "a/bc", "a/bd/e"]
        assert [info.key for info in store.list("a/")] == ["a/b", "a/bc", "a/bd/e", "a/c"]
        assert list(store.list("nothing/here")) == []

    def test_list_starts_after_a_key(self, store: Store) -> None:
        """One that exists or not; the key itself is not listed."""
        for key in ("log/1", "log/2", "log/2/3", "log/4", "log/5/6", "other"):
            if key != "log/2":
                store.create(key, b"", "put-1")
        after = {
            "": ["log/1", "log/2/3", "log/4", "log/5/6"],
            "log/1": ["log/2/3", "log/4", "log/5/6"],
            "log/2": ["log/2/3", "log/4", "log/5/6"],
            "log/2/3": ["log/4", "log/5/6"],
            "log/3": ["log/4", "log/5/6"],
            "log/5": ["log/5/6"],
            "log/5/6": [],
            "z": [],
        }
        for start_after, expected in after.items():
            assert [info.key for info in store.list("log/", start_after)] == expected, start_after

    def test_long_lists_are_whole(self, store: Store) -> None:
        """Over several pages, in order, each once; sizes and ages with them."""
        keys = [f"log/{number:020d}" for number in range(1_050)]
        with ThreadPoolExecutor(RIVALS) as pool:
            assert all(pool.map(lambda key: store.create(key, b"12", "put-1"), keys))
        listed = list(store.list("log/"))
        assert [info.key for info in listed] == keys
        assert all(info.size == 2 and 0 <= info.age < 3600 for info in listed)
        assert [info.key for info in store.list("log/", keys[1_020])] == keys[1_021:]

    def test_of_rivals_one_wins(self, store: Store) -> None:
        """However close they come; what the winner wrote is what everybody reads."""
        for number in range(ROUNDS):
            key = f"log/{number:020d}"
            start = threading.Barrier(RIVALS)

            def put(rival: int, key: str = key, start: threading.Barrier = start) -> bool:
                start.wait()
                return store.create(key, f"rival {rival}".encode(), f"put-{rival}")

            with ThreadPoolExecutor(RIVALS) as pool:
                won = list(pool.map(put, range(RIVALS)))
            assert won.count(True) == 1, key
            assert store.get(key) == f"rival {won.index(True)}".encode()

    def test_writers_and_removers_do_not_disturb_each_other(self, store: Store) -> None:
        """Also where the last key of a folder goes while another is written there."""

        def write_and_remove(writer: int) -> None:
            for number in range(ROUNDS):
                key = f"notifications/deep/{writer}.{number}"
                assert store.create(key, b"", f"put-{writer}") is True
                assert store.get(key) == b""
                store.delete(key)

        with ThreadPoolExecutor(RIVALS) as pool:
            list(pool.map(write_and_remove, range(RIVALS)))
        assert list(store.list("notifications/")) == []


class Scattered:
    """Content in pieces, as large values come."""

    def __init__(self, *pieces: bytes | memoryview) -> None:
        self._pieces = pieces

    def __len__(self) -> int:
        return sum(len(piece) for piece in self._pieces)

    def __iter__(self) -> Iterator[bytes | memoryview]:
        return iter(self._pieces)


def fetched(store: Store, key: str) -> bytes | None:
    """What `fetch` reads; None where it finds nothing."""
    rooms: list[bytearray] = []

    def allocate(size: int) -> memoryview:
        rooms.append(bytearray(size))
        return memoryview(rooms[-1])

    if store.fetch(key, allocate):
        return bytes(rooms[-1])
    assert not rooms, key
    return None


def _calls_with(store: Store, key: str) -> list[Callable[[], object]]:
    return [
        lambda: store.create(key, b"", "put-1"),
        lambda: store.get(key),
        lambda: fetched(store, key),
        lambda: store.head(key),
        lambda: store.delete(key),
        lambda: store.overwrite(key, b""),
    ]


def _refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except StoreRefusedError:
        return True
    return False
