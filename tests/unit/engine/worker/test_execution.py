"""One try in its worker: the user's code is executed once, however long the store is away; what it raises is told."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from workflow.engine.messages import Raised, Returned, RunAddress, StepResult, StepTask
from workflow.engine.worker import event_host, execution
from workflow.engine.worker.event_host import EventHost
from workflow.errors import StoreRefusedError, StoreUnavailableError
from workflow.log.blobs import INLINE_LIMIT
from workflow.model.graph import Value
from workflow.store.memory import MemoryStore
from workflow.testing.failing import FailingStore

TASK = StepTask(RunAddress("memory://", "w", 1, "run"), "a", "m.f", "", Value(b""), (), 1, render=False, written_by="")
LARGE = "x" * 2 * INLINE_LIMIT
AWAY = 7

Execute = Callable[[Callable[[], Any]], StepResult]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FailingStore:
    failing = FailingStore(MemoryStore())
    monkeypatch.setattr(execution, "store_at", lambda url: failing)
    monkeypatch.setattr(execution, "STORE_PAUSE", 0.0)
    return failing


@pytest.fixture(params=["step", "listener"])
def execute(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, store: FailingStore) -> Execute:
    """Executes a function as a step's, or awaits it as a listener's."""

    def as_step(function: Callable[[], Any]) -> StepResult:
        monkeypatch.setattr(execution, "inputs", lambda task: (function, (), {}))
        return execution.execute(TASK)

    def as_listener(function: Callable[[], Any]) -> StepResult:
        async def listens() -> Any:
            return function()

        monkeypatch.setattr(event_host, "inputs", lambda task: (listens, (), {}))
        result = asyncio.run(EventHost().listen(TASK))
        assert result is not None, "nobody stopped it"
        return result

    return as_step if request.param == "step" else as_listener


def test_a_result_that_cannot_be_stored_yet_is_no_reason_to_execute_again(
    store: FailingStore, execute: Execute
) -> None:
    calls: list[str] = []

    def function() -> str:
        calls.append("called")
        return LARGE

    store.fail("create", key="/blobs/", times=AWAY)
    result = execute(function)
    assert isinstance(result, Returned)
    assert result.value.blob
    assert calls == ["called"]


def test_an_error_that_cannot_be_stored_yet_is_none_either(store: FailingStore, execute: Execute) -> None:
    calls: list[str] = []

    def function() -> None:
        calls.append("called")
        raise ValueError(LARGE)

    store.fail("create", key="/blobs/", times=AWAY)
    result = execute(function)
    assert isinstance(result, Raised)
    assert result.value.blob
    assert calls == ["called"]


def test_an_error_that_the_store_refuses_is_told_by_its_text(store: FailingStore, execute: Execute) -> None:
    def function() -> None:
        raise ValueError("ä" * 20_000, LARGE)

    store.fail("create", key="/blobs/", error=StoreRefusedError("entity too large"), times=AWAY)
    result = execute(function)
    assert isinstance(result, Raised)
    assert result.error.kind == "ValueError"
    assert len(result.error.traceback) < INLINE_LIMIT, "it stands in a record"
    assert result.value.inline is not None
    with pytest.raises(RuntimeError, match=r"ValueError: \('ä+ \(not carried itself: entity too large\)"):
        raise pickle.loads(result.value.inline)


@pytest.mark.parametrize(
    "error",
    [StoreUnavailableError("a store of the user's own"), asyncio.CancelledError(), KeyboardInterrupt()],
    ids=repr,
)
def test_whatever_the_users_code_raises_is_its_result(execute: Execute, error: BaseException) -> None:
    def function() -> None:
        raise error

    result = execute(function)
    assert isinstance(result, Raised)
    assert not result.system
    assert result.error.kind.endswith(type(error).__name__)
    assert result.value.inline is not None
    carried = pickle.loads(result.value.inline)
    assert isinstance(carried, type(error) if isinstance(error, Exception) else RuntimeError), "it cancels no reader"


def test_a_step_that_awaits_a_task_that_was_canceled_has_raised(
    store: FailingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def function() -> None:
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task

    monkeypatch.setattr(execution, "inputs", lambda task: (function, (), {}))
    result = execution.execute(TASK)
    assert isinstance(result, Raised)
    assert result.error.kind == "asyncio.exceptions.CancelledError"


def test_arguments_that_cannot_be_read_yet_are_read_later(store: FailingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []

    def inputs(task: StepTask) -> tuple[Any, ...]:
        reads.append("read")
        if len(reads) < AWAY:
            raise StoreUnavailableError("away")
        return (lambda: "v"), (), {}

    monkeypatch.setattr(execution, "inputs", inputs)
    assert isinstance(execution.execute(TASK), Returned)
    assert len(reads) == AWAY


async def test_a_listener_that_was_stopped_answers_nothing(
    store: FailingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def listens() -> None:
        begun.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(event_host, "inputs", lambda task: (listens, (), {}))
    host = EventHost()
    listening = asyncio.ensure_future(host.listen(TASK))
    await begun.wait()
    await host.stop([TASK.key])
    assert await listening is None
