"""Does a store have the properties that the log stands on?

Called once by each process before it trusts a store: `init`, the manager, the operator. A store that lacks one would
lose or double outcomes without a word, so it is refused at the door, by name of the property.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NoReturn

from workflow.errors import StoreRefusedError
from workflow.store.port import Store

_RIVALS: Final = 8
_REMEDY: Final = "use a store that docs/stores.md names, in a release that it names"


def probe(store: Store) -> None:
    """Write, read and remove a few keys below `probe/`.

    Args:
        store: whichever.

    Raises:
        StoreRefused: it lacks a property, which the text names; or it refuses to be used at all.
        StoreUnavailable: it does not answer.
    """
    root = f"probe/{uuid.uuid4().hex}"
    keys = [f"{root}/{number}" for number in range(4)]
    with _cleaned_up(store, keys):
        _creates_once(store, keys[0])
        _knows_its_own_put(store, keys[1])
        _has_one_winner(store, keys[2])
        store.create(keys[3], b"", uuid.uuid4().hex)
        _lists_in_order(store, f"{root}/", keys)
        _tells_ages(store, keys[0])
        store.delete(keys[3])
        if store.get(keys[3]) is not None:
            _lacks(store, "a removed object is gone", "it was still read")


@contextlib.contextmanager
def _cleaned_up(store: Store, keys: list[str]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):  # the first error tells more than one of cleaning up
            _remove(store, keys)
        raise
    _remove(store, keys)


def _remove(store: Store, keys: list[str]) -> None:
    for key in keys:
        store.delete(key)


def _creates_once(store: Store, key: str) -> None:
    if not store.create(key, b"first", uuid.uuid4().hex):
        _lacks(store, "a new key can be created", "it said that a key nobody had used exists")
    if store.create(key, b"second", uuid.uuid4().hex):
        _lacks(store, "create never replaces an object", "a second create of one key went through")
    if store.get(key) != b"first":
        _lacks(store, "what was created reads back", "another content was read")


def _knows_its_own_put(store: Store, key: str) -> None:
    put_id = uuid.uuid4().hex
    if not store.create(key, b"once", put_id) or not store.create(key, b"once", put_id):
        _lacks(store, "an object keeps its put id", "a create that was tried again was not known as the same one")


def _has_one_winner(store: Store, key: str) -> None:
    start = threading.Barrier(_RIVALS)

    def put(rival: int) -> bool:
        start.wait()
        return store.create(key, str(rival).encode(), uuid.uuid4().hex)

    with ThreadPoolExecutor(_RIVALS, thread_name_prefix="store-probe") as pool:
        won = [rival for rival, result in enumerate(pool.map(put, range(_RIVALS))) if result]
    if len(won) != 1:
        _lacks(store, "of several creates at once exactly one goes through", f"{len(won)} of {_RIVALS} did")
    if store.get(key) != str(won[0]).encode():
        _lacks(store, "the winner of several creates is what is read", "what a loser wrote was read")


def _lists_in_order(store: Store, prefix: str, keys: list[str]) -> None:
    listed = [info.key for info in store.list(prefix)]
    if listed != keys:
        _lacks(store, "a list shows at once what was created, in order", f"it showed {len(listed)} of {len(keys)} keys")
    if [info.key for info in store.list(prefix, keys[1])] != keys[2:]:
        _lacks(store, "a list can start after a key", "it showed other keys than those behind it")


def _tells_ages(store: Store, key: str) -> None:
    if store.head(key) is None:
        _lacks(store, "an object's age can be asked for", "it said that an object it had listed is missing")


def _lacks(store: Store, prop: str, seen: str) -> NoReturn:
    raise StoreRefusedError(
        f"the store {store.url} cannot be used: it lacks the property that {prop} ({seen}); {_REMEDY}"
    )
