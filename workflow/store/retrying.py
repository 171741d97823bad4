"""A wrapper that tries again where a store does not answer.

`open_store` puts it around every adapter, so that nobody above handles a passing outage. A write keeps its put id over
all tries, which is how a try whose answer was lost is known to have gone through.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import tenacity

from workflow.errors import StoreUnavailableError
from workflow.store.port import Allocate, Data, ObjectInfo, Store

BUDGET_SECONDS: Final = 30.0
_FIRST_WAIT_SECONDS: Final = 0.1
_LONGEST_WAIT_SECONDS: Final = 5.0

T = TypeVar("T")


class RetryingStore:
    """A store that tries each call again for some time.

    Args:
        inner: the store.
        budget: seconds after which a call gives up, with the waits between tries but without the last try's own time.
        sleep: waits between tries, in seconds; by default it ends early when the store is closed.
    """

    def __init__(
        self, inner: Store, budget: float = BUDGET_SECONDS, sleep: Callable[[float], None] | None = None
    ) -> None:
        self._inner = inner
        self._budget = budget
        self._closed = threading.Event()
        self._sleep: Callable[[float], Any] = sleep or self._closed.wait

    @property
    def url(self) -> str:
        """The inner store's."""
        return self._inner.url

    def create(self, key: str, data: Data, put_id: str) -> bool:
        """See the port."""
        return self._call(lambda: self._inner.create(key, data, put_id))

    def get(self, key: str) -> bytes | None:
        """See the port."""
        return self._call(lambda: self._inner.get(key))

    def fetch(self, key: str, allocate: Allocate) -> bool:
        """See the port."""
        return self._call(lambda: self._inner.fetch(key, allocate))

    def head(self, key: str) -> ObjectInfo | None:
        """See the port."""
        return self._call(lambda: self._inner.head(key))

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """See the port. After a failure it goes on behind the last key given out; each key has a budget of its own."""
        pages = self._inner.list(prefix, start_after)
        last = start_after

        def list_again() -> ObjectInfo | None:
            nonlocal pages
            pages = self._inner.list(prefix, last)
            return next(pages, None)

        while True:
            try:
                info = next(pages, None)
            except StoreUnavailableError:
                info = self._call(list_again)
            if info is None:
                return
            last = info.key
            yield info

    def delete(self, key: str) -> None:
        """See the port."""
        self._call(lambda: self._inner.delete(key))

    def overwrite(self, key: str, data: bytes) -> None:
        """See the port."""
        self._call(lambda: self._inner.overwrite(key, data))

    def close(self) -> None:
        """Close the inner store; calls that wait to try again give up."""
        self._closed.set()
        self._inner.close()

    def _call(self, call: Callable[[], T]) -> T:
        result: T = tenacity.Retrying(
            stop=self._used_up,
            wait=tenacity.wait_random_exponential(_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS),
            retry=tenacity.retry_if_exception_type(StoreUnavailableError),
            retry_error_callback=_give_up,
            sleep=self._sleep,
        )(_without_frames, call)
        return result

    def _used_up(self, state: tenacity.RetryCallState) -> bool:
        # The waits count by themselves too, so that a test whose sleep takes no time comes to an end.
        spent = max(time.monotonic() - state.start_time, state.idle_for)
        return self._closed.is_set() or spent + state.upcoming_sleep > self._budget


def _without_frames(call: Callable[[], T]) -> T:
    """Let a failed try go at once: HTTP clients leave errors and frames in circles, which may hold a large value."""
    try:
        return call()
    except StoreUnavailableError as error:
        link: BaseException | None = error
        while link is not None:
            link.__traceback__ = None
            link = link.__cause__ or link.__context__
        raise


def _give_up(state: tenacity.RetryCallState) -> Any:
    last = state.outcome.exception() if state.outcome else None
    fields = last.fields if isinstance(last, StoreUnavailableError) else {}
    tries = f"{state.attempt_number} tries" if state.attempt_number > 1 else "1 try"
    raise StoreUnavailableError(f"{last} (gave up after {tries})", **fields) from last
