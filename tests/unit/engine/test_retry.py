"""The retry loops and the backoff of the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from workflow.engine.retry import Backoff, async_retry_while_unavailable, retry_while_unavailable
from workflow.errors import StoreRefusedError, StoreUnavailableError

PAUSE = 0.25


class FlakyCall:
    """A call that raises the given errors in turn, and then returns "done"."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        """Raise the next error, or return the result."""
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    async def asynchronously(self) -> str:
        """Do the same in a coroutine."""
        return self()


Retry = Callable[[FlakyCall, list[str]], str]


def blocking(call: FlakyCall, reported: list[str]) -> str:
    return retry_while_unavailable(call, PAUSE, lambda error: reported.append(str(error)))


def asynchronous(call: FlakyCall, reported: list[str]) -> str:
    return asyncio.run(
        async_retry_while_unavailable(call.asynchronously, PAUSE, lambda error: reported.append(str(error)))
    )


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the pauses of both loops instead of sleeping."""
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(time, "sleep", found.append)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    return found


@pytest.mark.parametrize("repeat", [blocking, asynchronous])
@pytest.mark.parametrize("failures", [0, 1, 3])
def test_call_is_repeated_until_the_store_answers(repeat: Retry, failures: int, pauses: list[float]) -> None:
    messages = [f"outage {number}" for number in range(failures)]
    call = FlakyCall(*map(StoreUnavailableError, messages))
    reported: list[str] = []
    assert repeat(call, reported) == "done"
    assert call.calls == failures + 1
    assert reported == messages
    assert pauses == [PAUSE] * failures


@pytest.mark.parametrize("repeat", [blocking, asynchronous])
def test_other_errors_are_raised_without_a_repetition(repeat: Retry, pauses: list[float]) -> None:
    call = FlakyCall(StoreUnavailableError("outage"), StoreRefusedError("access denied"))
    reported: list[str] = []
    with pytest.raises(StoreRefusedError, match="access denied"):
        repeat(call, reported)
    assert call.calls == 2
    assert reported == ["outage"]
    assert pauses == [PAUSE]


def test_asynchronous_retry_does_not_block_the_loop() -> None:
    async def scenario() -> list[str]:
        order: list[str] = []

        async def other_task() -> None:
            order.append("other task")

        task = asyncio.ensure_future(other_task())
        call = FlakyCall(StoreUnavailableError("outage"))
        order.append(await async_retry_while_unavailable(call.asynchronously, 0.01, lambda error: None))
        await task
        return order

    assert asyncio.run(scenario()) == ["other task", "done"]


def test_asynchronous_retry_can_be_canceled() -> None:
    async def scenario() -> None:
        call = FlakyCall(*[StoreUnavailableError("outage")] * 1_000)
        await asyncio.wait_for(async_retry_while_unavailable(call.asynchronously, 0.01, lambda error: None), 0.05)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(scenario())


@pytest.mark.parametrize(
    ("failures", "seconds"), [(-1, 0.0), (0, 0.0), (1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (10_000, 30.0)]
)
def test_backoff_doubles_up_to_its_maximum(failures: int, seconds: float) -> None:
    assert Backoff(initial=0.5, maximum=30.0).delay(failures) == seconds
