"""Checks that a store has the properties on which the log relies.

`workflow.init` runs the probe before a driver uses a store, and so does the entrypoint of a Workflow object. A store
without one of these properties would lose or duplicate outcomes silently. The probe therefore refuses it, and names the
missing property.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NoReturn

from workflow.errors import StoreRefusedError
from workflow.store.port import Store
from workflow.store.retrying import within

LIMIT_SECONDS: Final = 30.0
"""Seconds for which the probe as a whole retries calls of a store that is unavailable."""

_RIVALS: Final = 8
_REMEDY: Final = "use a store and a release that docs/stores.md names"


def probe(store: Store, prefix: str = "probe/", folders: Sequence[str] = ()) -> None:
    """Write, read and remove a few keys.

    Args:
        store: the store to check. If `open_store` opened it, all calls together are retried for 30 seconds.
        prefix: the keys are below this prefix.
        folders: further prefixes below which one key is written and removed.

    Raises:
        StoreRefusedError: the store lacks a property, which the text names, or it refuses access.
        StoreUnavailableError: the store does not respond, or its address leads to a server that is not a store.
    """
    store = within(store, LIMIT_SECONDS)
    mark = uuid.uuid4().hex
    root = f"{prefix}{mark}/log"
    keys = [f"{root}/{number}" for number in range(4)]
    with _cleanup(store, [*keys, *(folder + mark for folder in folders)]):
        for folder in folders:
            store.create(folder + mark, b"", mark)
        _check_create(store, keys[0])
        _check_put_id(store, keys[1])
        _check_single_winner(store, keys[2])
        store.create(keys[3], b"", uuid.uuid4().hex)
        _check_list(store, f"{root}/", keys)
        _check_age(store, keys[0])
        store.delete(keys[3])
        if store.get(keys[3]) is not None:
            _refuse(store, "a removed object is gone", "it was still read")


@contextlib.contextmanager
def _cleanup(store: Store, keys: list[str]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is more useful than an error of the cleanup
            _remove(store, keys)
        raise
    _remove(store, keys)


def _remove(store: Store, keys: list[str]) -> None:
    for key in keys:
        store.delete(key)


def _check_create(store: Store, key: str) -> None:
    if not store.create(key, b"first", uuid.uuid4().hex):
        _refuse(store, "a new key can be created", "it reported that an unused key exists")
    if store.create(key, b"second", uuid.uuid4().hex):
        _refuse(store, "create never replaces an object", "a second create of one key succeeded")
    if store.get(key) != b"first":
        _refuse(store, "a created object reads back", "other content was read")


def _check_put_id(store: Store, key: str) -> None:
    put_id = uuid.uuid4().hex
    if not store.create(key, b"once", put_id) or not store.create(key, b"once", put_id):
        _refuse(store, "an object keeps its put id", "a repeated create was not recognized as the same write")


def _check_single_winner(store: Store, key: str) -> None:
    start = threading.Barrier(_RIVALS)

    def put(rival: int) -> bool:
        start.wait()
        return store.create(key, str(rival).encode(), uuid.uuid4().hex)

    with ThreadPoolExecutor(_RIVALS, thread_name_prefix="store-probe") as pool:
        winners = [rival for rival, won in enumerate(pool.map(put, range(_RIVALS))) if won]
    if len(winners) != 1:
        _refuse(store, "exactly one of several concurrent creates succeeds", f"{len(winners)} of {_RIVALS} did")
    if store.get(key) != str(winners[0]).encode():
        _refuse(store, "readers see the winner of several concurrent creates", "the content of a loser was read")


def _check_list(store: Store, prefix: str, keys: list[str]) -> None:
    listed = [info.key for info in store.list(prefix)]
    if listed != keys:
        _refuse(store, "a list shows new objects at once and in order", f"it showed {len(listed)} of {len(keys)} keys")
    if [info.key for info in store.list(prefix, keys[1])] != keys[2:]:
        _refuse(store, "a list can start after a key", "it showed other keys than those after it")


def _check_age(store: Store, key: str) -> None:
    if store.head(key) is None:
        _refuse(store, "it returns the age of an object", "it reported that a listed object is missing")


def _refuse(store: Store, prop: str, observed: str) -> NoReturn:
    raise StoreRefusedError(
        f"cannot use the store {store.url}: it lacks the property that {prop} ({observed}); {_REMEDY}"
    )
