"""The contract of all stores, as tests: for adapters, for wrappers, and for a store of your own.

Derive a class from `StoreContract` in a test module. Give it a pytest fixture `store` that returns a new, empty store
for each test. Then pytest runs the contract against that store:

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
    """The properties on which the log relies. The name of each test states one of them."""

    def test_created_object_is_readable(self, store: Store) -> None:
        """`get` returns the content, `head` the size and the age."""
        assert store.create("a/b", b"data", "put-1") is True
        assert store.get("a/b") == b"data"
        info = store.head("a/b")
        assert info is not None
        assert (info.key, info.size) == ("a/b", 4)
        assert 0 <= info.age < 3600

    def test_missing_object_is_none(self, store: Store) -> None:
        """This is true in an existing folder, below an object, and for the name of a folder."""
        store.create("a/b/c", b"data", "put-1")
        for key in ("missing", "a", "a/b", "a/x", "a/b/c/d"):
            assert store.get(key) is None
            assert store.head(key) is None

    def test_create_never_replaces_an_object(self, store: Store) -> None:
        """The second create returns False, and the first content stays."""
        assert store.create("key", b"first", "put-1") is True
        assert store.create("key", b"second", "put-2") is False
        assert store.get("key") == b"first"

    def test_repeated_create_with_same_put_id_succeeds(self, store: Store) -> None:
        """A writer that retries after a lost reply learns that it won. Its rivals get False."""
        assert store.create("key", b"first", "put-1") is True
        assert store.create("key", b"first", "put-1") is True
        assert store.create("key", b"first", "put-2") is False
        assert store.create("key", b"first", "put-1") is True

    def test_deleted_key_can_be_created_again(self, store: Store) -> None:
        """Any writer may create it."""
        store.create("folder/key", b"first", "put-1")
        store.delete("folder/key")
        assert store.get("folder/key") is None
        assert store.create("folder/key", b"second", "put-2") is True
        assert store.get("folder/key") == b"second"

    def test_delete_of_missing_key_does_nothing(self, store: Store) -> None:
        """Keys with a similar name stay."""
        store.create("a/b", b"data", "put-1")
        for key in ("missing", "a/missing", "b/c", "a/b/c"):
            store.delete(key)
        assert store.get("a/b") == b"data"

    def test_overwrite_creates_or_replaces(self, store: Store) -> None:
        """A later create of the key returns False."""
        store.overwrite("beat", b"1")
        store.overwrite("beat", b"22")
        assert store.get("beat") == b"22"
        info = store.head("beat")
        assert info is not None
        assert info.size == 2
        assert store.create("beat", b"3", "put-1") is False

    def test_empty_object_exists(self, store: Store) -> None:
        """It is readable, and listed with size 0."""
        assert store.create("notification", b"", "put-1") is True
        assert store.create("notification", b"", "put-2") is False
        assert store.get("notification") == b""
        assert [(info.key, info.size) for info in store.list("")] == [("notification", 0)]

    def test_content_is_unchanged(self, store: Store) -> None:
        """This includes every byte value, line ends and megabytes of data."""
        data = bytes(range(256)) * 16_384 + b"\r\n\0"
        store.create("large", data, "put-1")
        assert store.get("large") == data
        info = store.head("large")
        assert info is not None
        assert info.size == len(data)

    def test_pieces_become_one_object(self, store: Store) -> None:
        """Pieces may be empty or large. A repeated write of pieces is recognized by its put id."""
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

    def test_failing_pieces_leave_no_object(self, store: Store) -> None:
        """If the iterator of the pieces raises, nothing is stored and the key stays free."""

        class Broken(Scattered):
            def __iter__(self) -> Iterator[bytes | memoryview]:
                yield bytes(len(self) - 1)
                raise EOFError("the source of the pieces failed")

        try:
            store.create("large", Broken(bytes(3_000_000)), "put-1")
        except EOFError:
            pass
        else:
            raise AssertionError("create hid the error of the pieces")
        assert store.get("large") is None
        assert list(store.list("")) == []
        assert store.create("large", Scattered(b"whole"), "put-1") is True

    def test_fetch_reads_into_given_memory(self, store: Store) -> None:
        """It works for any size, and requests no memory if there is no object."""
        for key, data in {"empty": b"", "small": b"data", "large": bytes(range(256)) * 16_384 + b"end"}.items():
            store.create(key, data, "put-1")
            assert fetched(store, key) == data
        store.create("folder/key", b"", "put-1")
        for key in ("missing", "folder", "small/x"):
            assert fetched(store, key) is None

    def test_keys_may_contain_any_printable_character(self, store: Store) -> None:
        """Spaces, symbols and all scripts are allowed."""
        for key in ODD_KEYS:
            assert store.create(key, key.encode(), "put-1") is True
            assert store.get(key) == key.encode()
        assert [info.key for info in store.list("")] == sorted(ODD_KEYS)
        for key in ODD_KEYS:
            store.delete(key)
        assert list(store.list("")) == []

    def test_invalid_keys_are_refused(self, store: Store) -> None:
        """All stores refuse the same keys, so that a run can move to another store."""
        for key in REFUSED_KEYS:
            for call in _calls_with(store, key):
                assert _is_refused(call), key

    def test_list_sorts_by_bytes(self, store: Store) -> None:
        """The `/` after the name of a folder sorts like any other character."""
        keys = ["a-b", "a.b", "a/b", "a/b-c", "a/bc/d", "a/b0", "a0", "aa", "b", "ä", "Z"]
        for key in keys:
            store.create(key, b"", "put-1")
        assert [info.key for info in store.list("")] == sorted(keys, key=str.encode)

    def test_list_prefix_is_plain_text(self, store: Store) -> None:
        """A prefix may end in the middle of a name."""
        for key in ("a/b", "a/bc", "a/bd/e", "a/c", "ab"):
            store.create(key, b"", "put-1")
        assert [info.key for info in store.list("a/b")] == ["a/b", "a/bc", "a/bd/e"]
        assert [info.key for info in store.list("a/")] == ["a/b", "a/bc", "a/bd/e", "a/c"]
        assert list(store.list("nothing/here")) == []

    def test_list_starts_after_a_given_key(self, store: Store) -> None:
        """The key may exist or not. It is not listed itself."""
        for key in ("log/1", "log/2", "log/2/3", "log/4", "log/5/6", "other"):
            if key != "log/2":
                store.create(key, b"", "put-1")
        listed_after = {
            "": ["log/1", "log/2/3", "log/4", "log/5/6"],
            "log/1": ["log/2/3", "log/4", "log/5/6"],
            "log/2": ["log/2/3", "log/4", "log/5/6"],
            "log/2/3": ["log/4", "log/5/6"],
            "log/3": ["log/4", "log/5/6"],
            "log/5": ["log/5/6"],
            "log/5/6": [],
            "z": [],
        }
        for start_after, expected in listed_after.items():
            assert [info.key for info in store.list("log/", start_after)] == expected, start_after

    def test_long_list_is_complete(self, store: Store) -> None:
        """A list of several pages yields each key once and in order, with its size and age."""
        keys = [f"log/{number:020d}" for number in range(1_050)]
        with ThreadPoolExecutor(RIVALS) as pool:
            assert all(pool.map(lambda key: store.create(key, b"12", "put-1"), keys))
        listed = list(store.list("log/"))
        assert [info.key for info in listed] == keys
        assert all(info.size == 2 and 0 <= info.age < 3600 for info in listed)
        assert [info.key for info in store.list("log/", keys[1_020])] == keys[1_021:]

    def test_one_of_several_concurrent_creates_wins(self, store: Store) -> None:
        """All readers see the content of the winner."""
        for number in range(ROUNDS):
            key = f"log/{number:020d}"
            start = threading.Barrier(RIVALS)

            def put(rival: int, key: str = key, start: threading.Barrier = start) -> bool:
                start.wait()
                return store.create(key, f"rival {rival}".encode(), f"put-{rival}")

            with ThreadPoolExecutor(RIVALS) as pool:
                results = list(pool.map(put, range(RIVALS)))
            assert results.count(True) == 1, key
            assert store.get(key) == f"rival {results.index(True)}".encode()

    def test_concurrent_creates_and_deletes_succeed(self, store: Store) -> None:
        """This is true even if the last key of a folder is removed while another is written there."""

        def create_and_delete(writer: int) -> None:
            for number in range(ROUNDS):
                key = f"notifications/deep/{writer}.{number}"
                assert store.create(key, b"", f"put-{writer}") is True
                assert store.get(key) == b""
                store.delete(key)

        with ThreadPoolExecutor(RIVALS) as pool:
            list(pool.map(create_and_delete, range(RIVALS)))
        assert list(store.list("notifications/")) == []


class Scattered:
    """Content in several pieces, like a large value."""

    def __init__(self, *pieces: bytes | memoryview) -> None:
        self._pieces = pieces

    def __len__(self) -> int:
        return sum(len(piece) for piece in self._pieces)

    def __iter__(self) -> Iterator[bytes | memoryview]:
        return iter(self._pieces)


def fetched(store: Store, key: str) -> bytes | None:
    """Return the content that `fetch` reads, or None if there is no object."""
    buffers: list[bytearray] = []

    def allocate(size: int) -> memoryview:
        buffers.append(bytearray(size))
        return memoryview(buffers[-1])

    if store.fetch(key, allocate):
        return bytes(buffers[-1])
    assert not buffers, key
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


def _is_refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except StoreRefusedError:
        return True
    return False
