"""One attempt in its worker: user code runs once whatever the store does, and what it raises is a result."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from workflow.engine.messages import Raised, Returned, RunAddress, StepResult, StepTask
from workflow.engine.worker import execution, run_values
from workflow.engine.worker.event_host import EventHost
from workflow.engine.worker.run_values import RunValues
from workflow.errors import InvalidInputError, StoreRefusedError, StoreUnavailableError
from workflow.log.blobs import INLINE_LIMIT
from workflow.model.graph import Value
from workflow.store.memory import MemoryStore
from workflow.testing.failing import FailingStore

TASK = StepTask(RunAddress("memory://", "w", 1, "run"), "a", "m.f", "", Value(b""), (), 1, render=False, written_by="")
LARGE = "x" * 2 * INLINE_LIMIT
FAILED_CALLS = 7

Execute = Callable[[Callable[[], Any]], StepResult]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FailingStore:
    failing = FailingStore(MemoryStore())
    monkeypatch.setattr(run_values, "shared_store", lambda url: failing)
    monkeypatch.setattr(execution, "STORE_PAUSE", 0.0)
    return failing


def use_function(monkeypatch: pytest.MonkeyPatch, function: Callable[[], Any]) -> None:
    """Let every task have this function and no arguments."""
    monkeypatch.setattr(RunValues, "load_inputs", lambda self, task: (function, (), {}))


@pytest.fixture(params=["step", "listener"])
def execute(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, store: FailingStore) -> Execute:
    """Executes a function as the function of a step, or awaits it as that of an event listener."""

    def as_step(function: Callable[[], Any]) -> StepResult:
        use_function(monkeypatch, function)
        return execution.execute(TASK)

    def as_listener(function: Callable[[], Any]) -> StepResult:
        async def listen() -> Any:
            return function()

        use_function(monkeypatch, listen)
        result = asyncio.run(EventHost(lambda: None).listen(TASK))
        assert result is not None, "nothing stopped it"
        return result

    return as_step if request.param == "step" else as_listener


def test_function_runs_once_while_its_result_cannot_be_stored(store: FailingStore, execute: Execute) -> None:
    calls: list[str] = []

    def function() -> str:
        calls.append("called")
        return LARGE

    store.fail("create", key="/blobs/", times=FAILED_CALLS)
    result = execute(function)
    assert isinstance(result, Returned)
    assert result.value.blob
    assert calls == ["called"]


def test_function_runs_once_while_its_error_cannot_be_stored(store: FailingStore, execute: Execute) -> None:
    calls: list[str] = []

    def function() -> None:
        calls.append("called")
        raise ValueError(LARGE)

    store.fail("create", key="/blobs/", times=FAILED_CALLS)
    result = execute(function)
    assert isinstance(result, Raised)
    assert result.value.blob
    assert calls == ["called"]


def test_error_that_the_store_refuses_is_kept_as_its_message(store: FailingStore, execute: Execute) -> None:
    def function() -> None:
        raise ValueError("ä" * 20_000, LARGE)

    store.fail("create", key="/blobs/", error=StoreRefusedError("entity too large"), times=FAILED_CALLS)
    result = execute(function)
    assert isinstance(result, Raised)
    assert result.error.kind == "ValueError"
    assert len(result.error.traceback) < INLINE_LIMIT, "it is stored in a record"
    assert result.value.inline is not None
    with pytest.raises(
        RuntimeError, match=r"ValueError: \('ä+ \(the exception itself is not stored: entity too large\)"
    ):
        raise pickle.loads(result.value.inline)


@pytest.mark.parametrize(
    "error",
    [StoreUnavailableError("a store of the user's own"), asyncio.CancelledError(), KeyboardInterrupt()],
    ids=repr,
)
def test_everything_that_user_code_raises_is_its_result(execute: Execute, error: BaseException) -> None:
    def function() -> None:
        raise error

    result = execute(function)
    assert isinstance(result, Raised)
    assert not result.system
    assert result.error.kind.endswith(type(error).__name__)
    assert result.value.inline is not None
    stored = pickle.loads(result.value.inline)
    expected = type(error) if isinstance(error, Exception) else RuntimeError
    assert isinstance(stored, expected), "it does not cancel or end a process that reads it"


def test_step_that_awaits_a_canceled_task_has_raised(store: FailingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async def function() -> None:
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task

    use_function(monkeypatch, function)
    result = execution.execute(TASK)
    assert isinstance(result, Raised)
    assert result.error.kind == "asyncio.exceptions.CancelledError"


def test_inputs_are_read_again_while_the_store_is_unavailable(
    store: FailingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []

    def load_inputs(self: RunValues, task: StepTask) -> run_values.Inputs:
        reads.append("read")
        if len(reads) < FAILED_CALLS:
            raise StoreUnavailableError("unavailable")
        return (lambda: "v"), (), {}

    monkeypatch.setattr(RunValues, "load_inputs", load_inputs)
    assert isinstance(execution.execute(TASK), Returned)
    assert len(reads) == FAILED_CALLS


def test_async_step_keeps_the_event_loop_of_the_process(store: FailingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async def function() -> None:
        assert asyncio.get_running_loop() is not loop

    use_function(monkeypatch, function)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        assert isinstance(execution.execute(TASK), Returned)
        assert asyncio.get_event_loop_policy().get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def test_stopped_listener_has_no_result(store: FailingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    started = asyncio.Event()

    async def listen() -> None:
        started.set()
        await asyncio.sleep(60)

    use_function(monkeypatch, listen)
    host = EventHost(lambda: None)
    listening = asyncio.ensure_future(host.listen(TASK))
    await started.wait()
    await host.stop([TASK.key])
    assert await listening is None


async def test_listener_is_not_called_in_a_host_without_the_store(
    store: FailingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise StoreRefusedError("another store")

    async def listen() -> None:
        pytest.fail("the host does not see the store")

    use_function(monkeypatch, listen)
    with pytest.raises(StoreRefusedError, match="another store"):
        await EventHost(refuse).listen(TASK)


@pytest.mark.parametrize(
    ("error", "environment"),
    [
        (InvalidInputError("no module 'a'"), "inputs"),
        (StoreRefusedError("key expired", credentials=True), "store"),
        (StoreRefusedError("the key is too long"), "inputs"),
        (ValueError("of the user"), ""),
    ],
    ids=["unpickling", "credentials", "refused", "other"],
)
def test_attempt_reports_what_the_cluster_lacks(
    store: FailingStore, monkeypatch: pytest.MonkeyPatch, error: Exception, environment: str
) -> None:
    def load(self: RunValues, task: StepTask) -> Any:
        raise error

    monkeypatch.setattr(RunValues, "load_inputs", load)
    result = execution.execute(TASK)
    assert isinstance(result, Raised)
    assert result.environment == environment


def test_errors_of_user_code_are_not_the_fault_of_the_cluster(store: FailingStore, execute: Execute) -> None:
    def function() -> None:
        raise StoreRefusedError("of a nested workflow", credentials=True)

    result = execute(function)
    assert isinstance(result, Raised)
    assert result.environment == ""


def test_value_that_the_store_refuses_for_its_credentials(store: FailingStore, execute: Execute) -> None:
    store.fail("create", key="/blobs/", error=StoreRefusedError("expired", credentials=True), times=FAILED_CALLS)
    result = execute(lambda: LARGE)
    assert isinstance(result, Raised)
    assert result.environment == "store"
