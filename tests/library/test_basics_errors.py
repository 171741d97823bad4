"""The section "Error handling" of the specification: FAILED, `max_retries` and `catch_exceptions`."""

from __future__ import annotations

import os
from typing import Any

import pytest
import ray

import workflow
from tests.support import invariants
from tests.support.marks import Marks
from workflow import WorkflowStatus
from workflow.errors import InvalidInputError, StepFailedError
from workflow.store import Store

pytestmark = pytest.mark.usefixtures("storage")


class OopsError(RuntimeError):
    """An exception of the user, with an argument that it keeps when it is pickled."""

    def __init__(self, code: int) -> None:
        super().__init__(f"oops {code}")
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return OopsError, (self.code,)


@workflow.step
def faulty(marks: Marks, until: int = 1_000, name: str = "faulty") -> str:
    marks.started(name)
    if marks.starts()[name] < until:
        raise OopsError(marks.starts()[name])
    return "OK"


@workflow.step
def handle_errors(result: tuple[str, Exception]) -> str:
    err = result[1]
    if err:
        return f"There was an error: {err}"
    return "OK"


@workflow.step
def after(marks: Marks, value: Any) -> Any:
    marks.started("after")
    return value


def test_step_that_raises_makes_the_workflow_failed(marks: Marks, wid: str, store: Store) -> None:
    """Text: "any step that raises an exception will cause the workflow to abort and enter FAILED state"."""
    with pytest.raises(OopsError, match="oops 1") as caught:
        after.step(marks, faulty.step(marks)).run(wid)
    assert caught.value.code == 1
    assert isinstance(caught.value.__cause__, StepFailedError)
    assert "faulty" in caught.value.__cause__.step_id  # type: ignore[attr-defined]
    assert "raise OopsError" in str(caught.value.__cause__)
    assert workflow.get_status(wid) is WorkflowStatus.FAILED
    assert marks.starts() == {"faulty": 1}
    invariants.check(store, wid)


def test_only_run_and_resume_repeat_the_failed_step(marks: Marks, wid: str) -> None:
    dag = after.step(marks, faulty.step(marks))
    for oops in ("oops 1", "oops 2"):
        with pytest.raises(OopsError, match=oops):
            dag.run(wid)
        with pytest.raises(OopsError, match=oops):
            ray.get(workflow.get_output(wid))
    assert marks.starts() == {"faulty": 2}


def test_resume_runs_the_failed_step_and_no_committed_one(marks: Marks, wid: str, store: Store) -> None:
    @workflow.step
    def before(marks: Marks) -> str:
        marks.started("before")
        return "before"

    @workflow.step
    def needs(marks: Marks, _: str) -> str:
        marks.started("needs")
        if marks.starts()["needs"] == 1:
            raise OopsError(7)
        return "healed"

    with pytest.raises(OopsError, match="oops 7"):
        after.step(marks, needs.step(marks, before.step(marks))).run(wid)
    assert ray.get(workflow.resume(wid)) == "healed"
    assert marks.starts() == {"before": 1, "needs": 2, "after": 1}
    assert workflow.get_status(wid) is WorkflowStatus.SUCCESSFUL
    invariants.check(store, wid)


def test_async_run_raises_the_users_exception(marks: Marks) -> None:
    with pytest.raises(OopsError, match=r"faulty' of workflow .* failed: .*OopsError: oops 1") as caught:
        ray.get(faulty.step(marks).run_async())
    assert caught.value.cause.code == 1  # type: ignore[attr-defined]  # Ray's wrapper is an OopsError and holds it


def test_unpicklable_exception_is_raised_as_text(marks: Marks) -> None:
    @workflow.step
    def bad() -> None:
        class LocalError(Exception):
            def __init__(self, a: int, b: int) -> None:
                super().__init__(f"{a} and {b}")

        raise LocalError(1, 2)

    with pytest.raises(RuntimeError, match="LocalError: 1 and 2"):
        bad.step().run()


def test_max_retries_limits_the_number_of_attempts(marks: Marks) -> None:
    """Text: "Tries up to three times before giving up."""
    with pytest.raises(OopsError, match="oops 3"):
        faulty.options(max_retries=3).step(marks).run()
    assert marks.starts() == {"faulty": 3}


def test_successful_attempt_ends_the_retries(marks: Marks) -> None:
    assert faulty.options(max_retries=3).step(marks, until=2).run() == "OK"
    assert marks.starts() == {"faulty": 2}


def test_worker_death_does_not_use_up_max_retries(marks: Marks) -> None:
    """Text: "It will only retry for the application level error. For system errors, it's controlled by ray."."""

    @workflow.step(max_retries=3)
    def dies_once(marks: Marks) -> str:
        marks.started("dies")
        if marks.starts()["dies"] == 1:
            os.abort()
        return "lives"

    assert dies_once.step(marks).run() == "lives"
    assert marks.starts() == {"dies": 2}


def test_step_fails_after_four_worker_deaths(marks: Marks) -> None:
    @workflow.step(max_retries=50)
    def dies(marks: Marks) -> None:
        marks.started("dies")
        os.abort()

    with pytest.raises(RuntimeError, match="could not be executed by Ray: WorkerCrashedError"):
        dies.step(marks).run()
    assert marks.starts() == {"dies": 4}


def test_step_that_calls_exit_fails(marks: Marks) -> None:
    @workflow.step
    def leaves(marks: Marks) -> None:
        marks.started("leaves")
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match="SystemExit: 3"):
        leaves.step(marks).run()
    assert marks.starts() == {"leaves": 1}


def test_catch_exceptions_passes_result_and_exception_as_tuple(marks: Marks) -> None:
    """Text: "`handle_errors` receives a tuple of (result, exception)"."""
    r2 = faulty.options(catch_exceptions=True).step(marks)
    assert handle_errors.step(r2).run() == "There was an error: oops 1"


def test_caught_exception_is_none_on_success(marks: Marks) -> None:
    """Text: "The exception field will be None on success."""
    r2 = faulty.options(catch_exceptions=True).step(marks, until=1)
    assert r2.run() == ("OK", None)
    assert handle_errors.step(r2).run() == "OK"


def test_caught_exception_is_the_users_own(marks: Marks) -> None:
    """Text: "the return value of the function will be converted to `Tuple[Optional[T], Optional[Exception]]`"."""
    result, error = faulty.options(catch_exceptions=True).step(marks).run()
    assert result is None
    assert isinstance(error, OopsError)
    assert error.code == 1


def test_exception_is_caught_after_the_last_retry(marks: Marks) -> None:
    """Text: "try a given number of times before returning the result tuple"."""
    _, error = faulty.options(max_retries=3, catch_exceptions=True).step(marks).run()
    assert error.code == 3
    assert marks.starts() == {"faulty": 3}


def test_error_options_can_be_passed_to_the_decorator(marks: Marks) -> None:
    """`@workflow.step(max_retries=3, catch_exceptions=True)`"""

    @workflow.step(max_retries=3, catch_exceptions=True)
    def faulty_function(marks: Marks) -> None:
        marks.started("f")
        raise OopsError(marks.starts()["f"])

    _, error = faulty_function.step(marks).run()
    assert error.code == 3
    with pytest.raises(OopsError):
        faulty_function.options(catch_exceptions=False).step(marks).run()


@workflow.step
def dynamic(marks: Marks, until: int) -> Any:
    marks.started("dynamic")
    return after.step(marks, faulty.step(marks, until))


@pytest.mark.parametrize(("until", "result"), [(1, ("OK", None)), (99, (None, "oops 1"))], ids=["returns", "raises"])
def test_dynamic_step_catches_errors_of_the_steps_it_returned(
    marks: Marks, until: int, result: Any, store: Store, wid: str
) -> None:
    value, error = dynamic.options(catch_exceptions=True).step(marks, until).run(wid)
    assert (value, error and str(error)) == result
    assert marks.starts()["dynamic"] == 1
    invariants.check(store, wid)


def test_dynamic_step_is_not_retried_for_errors_of_its_steps(marks: Marks) -> None:
    _, error = dynamic.options(catch_exceptions=True, max_retries=3).step(marks, 99).run()
    assert isinstance(error, OopsError)
    assert marks.starts() == {"dynamic": 1, "faulty": 1}


def test_nearest_catching_step_catches_the_exception(marks: Marks) -> None:
    @workflow.step
    def outer(marks: Marks) -> Any:
        return handle_errors.step(dynamic.options(catch_exceptions=True).step(marks, 99))

    assert outer.options(catch_exceptions=True).step(marks).run() == ("There was an error: oops 1", None)


def test_catching_recursion_returns_one_tuple(marks: Marks) -> None:
    @workflow.step(catch_exceptions=True)
    def recursive(n: int) -> Any:
        return recursive.step(n - 1) if n else "deep"

    @workflow.step(catch_exceptions=True)
    def outer(marks: Marks) -> Any:
        return faulty.options(catch_exceptions=True).step(marks)

    assert recursive.step(3).run() == ("deep", None)
    value, error = outer.step(marks).run()
    assert value is None
    assert isinstance(error, OopsError)


def test_failure_stops_steps_that_run_in_parallel(marks: Marks) -> None:
    @workflow.step
    def slow(marks: Marks) -> None:
        marks.started("slow")
        marks.pass_gate("never")

    @workflow.step
    def fails(marks: Marks) -> None:
        marks.wait_started("slow")
        raise OopsError(5)

    @workflow.step
    def join(values: list[Any]) -> None: ...

    with pytest.raises(OopsError, match="oops 5"):
        join.step([slow.step(marks), fails.step(marks)]).run()


@pytest.mark.parametrize("bad", [0, -2, 1.5, "3", True])
def test_invalid_max_retries_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidInputError, match="max_retries"):
        faulty.options(max_retries=bad)


def test_broken_runtime_env_fails_only_the_step(marks: Marks, wid: str) -> None:
    """Ray reports this error only when it executes the step. Other invalid options are refused when composing."""
    nowhere = {"working_dir": f"file://{marks.folder}/nowhere.zip"}
    failing = faulty.options(name="failing", runtime_env=nowhere, max_retries=2).step(marks, until=1)
    with pytest.raises(RuntimeError, match="step 'failing' could not be executed by Ray: RuntimeEnvSetupError"):
        after.step(marks, failing).run(wid)
    assert workflow.get_status(wid) is WorkflowStatus.FAILED
    assert marks.order() == []
    assert after.step(marks, faulty.step(marks, until=1)).run() == "OK"
