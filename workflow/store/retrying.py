"""A wrapper that retries calls while a store is unavailable.

`open_store` puts it around every adapter, so that no caller has to handle a short outage. All attempts of one write
use the same put id. This is how the store recognizes an earlier attempt that succeeded and whose reply was lost.
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


def within(store: Store, seconds: float) -> Store:
    """Return a store with one limit for all calls together; see `RetryingStore.within`.

    Args:
        store: a store. One that does not retry is returned as it is.
        seconds: the limit.
    """
    return store.within(seconds) if isinstance(store, RetryingStore) else store


class RetryingStore:
    """A store that retries each unavailable call for a limited time. `workflow.store.Store` documents its methods.

    Args:
        inner: the store that is called.
        budget: seconds for which a call is retried. Waits count, the duration of the last attempt does not.
        sleep: waits for a number of seconds between attempts. By default `close` ends the wait early.
    """

    def __init__(
        self, inner: Store, budget: float = BUDGET_SECONDS, sleep: Callable[[float], None] | None = None
    ) -> None:
        self._inner = inner
        self._budget = budget
        self._closed = threading.Event()
        self._sleep: Callable[[float], Any] = sleep or self._closed.wait

    def within(self, seconds: float) -> Store:
        """Return the same store with one limit for all calls together, for its first use.

        Each attempt is expected to take as long as the last one, and is not made if it would end after the limit. An
        error that shows wrong settings is raised at once, because nothing has worked with them yet.
        """
        return _BoundedStore(self._inner, seconds, self._sleep)

    @property
    def url(self) -> str:
        """The address of the inner store."""
        return self._inner.url

    def create(self, key: str, data: Data, put_id: str) -> bool:
        return self._call(lambda: self._inner.create(key, data, put_id))

    def get(self, key: str) -> bytes | None:
        return self._call(lambda: self._inner.get(key))

    def fetch(self, key: str, allocate: Allocate) -> bool:
        return self._call(lambda: self._inner.fetch(key, allocate))

    def head(self, key: str) -> ObjectInfo | None:
        return self._call(lambda: self._inner.head(key))

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """List objects. After a failure the list continues after the last key; each key has its own retry budget."""
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
        self._call(lambda: self._inner.delete(key))

    def overwrite(self, key: str, data: bytes) -> None:
        self._call(lambda: self._inner.overwrite(key, data))

    def close(self) -> None:
        """Close the inner store. Calls that wait for their next attempt give up."""
        self._closed.set()
        self._inner.close()

    def _call(self, call: Callable[[], T]) -> T:
        result: T = tenacity.Retrying(
            stop=self._is_used_up,
            wait=tenacity.wait_random_exponential(_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS),
            retry=tenacity.retry_if_exception(self._may_pass),
            retry_error_callback=_give_up,
            sleep=self._sleep,
        )(_call_without_tracebacks, call)
        return result

    def _may_pass(self, error: BaseException) -> bool:
        return isinstance(error, StoreUnavailableError)

    def _is_used_up(self, state: tenacity.RetryCallState) -> bool:
        # The sum of the waits counts too, so that a test finishes even if its sleep takes no time.
        spent = max(time.monotonic() - state.start_time, state.idle_for)
        return self._closed.is_set() or spent + state.upcoming_sleep > self._budget


class _BoundedStore(RetryingStore):
    """A store whose calls share one limit; see `RetryingStore.within`."""

    def __init__(self, inner: Store, seconds: float, sleep: Callable[[float], Any]) -> None:
        super().__init__(inner, seconds, sleep)
        self._deadline = time.monotonic() + seconds
        self._last_attempt = 0.0
        self._failure: StoreUnavailableError | None = None

    def _call(self, call: Callable[[], T]) -> T:
        failure = self._failure
        if failure is not None and (not self._may_pass(failure) or self._remaining() < self._last_attempt):
            raise StoreUnavailableError(str(failure), **failure.fields)
        return super()._call(lambda: self._timed(call))

    def _timed(self, call: Callable[[], T]) -> T:
        began = time.monotonic()
        try:
            return call()
        except StoreUnavailableError as error:
            self._last_attempt = time.monotonic() - began
            self._failure = error
            raise

    def _may_pass(self, error: BaseException) -> bool:
        return isinstance(error, StoreUnavailableError) and not error.fields.get("lasting")

    def _is_used_up(self, state: tenacity.RetryCallState) -> bool:
        if self._remaining() < state.upcoming_sleep + self._last_attempt:
            return True
        return super()._is_used_up(state)

    def _remaining(self) -> float:
        return self._deadline - time.monotonic()


def _call_without_tracebacks(call: Callable[[], T]) -> T:
    """Call a function, and remove the tracebacks of its error.

    HTTP clients leave cycles of errors and frames. Without tracebacks, a large value in such a frame is freed at once.
    """
    try:
        return call()
    except StoreUnavailableError as error:
        cause: BaseException | None = error
        while cause is not None:
            cause.__traceback__ = None
            cause = cause.__cause__ or cause.__context__
        raise


def _give_up(state: tenacity.RetryCallState) -> Any:
    last = state.outcome.exception() if state.outcome else None
    fields = last.fields if isinstance(last, StoreUnavailableError) else {}
    attempts = f"{state.attempt_number} attempts" if state.attempt_number > 1 else "1 attempt"
    raise StoreUnavailableError(f"{last} (gave up after {attempts})", **fields) from last
