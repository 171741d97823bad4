"""A fake of the Ray runner, without Ray and pickles. A test defines the result of each step, or reports it by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.support import runs
from workflow.engine.messages import (
    EphemeralValue,
    Expanded,
    InputsLost,
    Raised,
    Returned,
    ReturnedEphemeral,
    StepResult,
    StepTask,
)
from workflow.engine.owner.run_loop import RunLoop
from workflow.model.graph import Graph
from workflow.model.run_view import ErrorInfo
from workflow.model.state import StepState


def returned(text: str = "v") -> Returned:
    """Return the result of a step that returned a value."""
    return Returned(runs.value(text), text, 2.0, 3.0)


def returned_ephemeral(text: str = "v") -> ReturnedEphemeral:
    """Return the result of a step that returned an ephemeral value."""
    return ReturnedEphemeral(EphemeralValue(runs.value(text)), 2.0, 3.0)


def inputs_lost(*step_ids: str) -> InputsLost:
    """Return the result of a step that did not run, because the ephemeral values of these steps are lost."""
    return InputsLost(step_ids, 2.0, 3.0)


def raised(step_id: str, kind: str = "ValueError", environment: Literal["", "inputs", "store"] = "") -> Raised:
    """Return the result of a step that raised."""
    error = ErrorInfo(kind, "boom", step_id=step_id)
    return Raised(error, runs.value("pickled error"), 2.0, 3.0, environment=environment)


def expanded(dag: Graph) -> Expanded:
    """Return the result of a step that returned a DAG."""
    return Expanded(dag, "", 2.0, 3.0)


@dataclass(frozen=True)
class StepAttempt:
    """An attempt that the runner received."""

    run: RunLoop
    task: StepTask

    def answer(self, result: StepResult) -> None:
        """Report the result of the attempt."""
        self.run.step_done(self.task.step_id, self.task.attempt, result)


Script = Callable[[StepTask], StepResult | None]
"""Returns the result of an attempt, or None if the test reports it later."""


@dataclass
class FakeRunner:
    """Executes nothing. It reports the result that its script returns, in a later iteration of the event loop.

    Attributes:
        attempts: all attempts that were started, in order.
        stopped: ids of the steps whose attempts were stopped.
    """

    script: Script = field(default=lambda task: returned(task.step_id))
    attempts: list[StepAttempt] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)

    def start(self, run: RunLoop, step: StepState, task: StepTask) -> None:
        """Record the attempt, and schedule its result."""
        attempt = StepAttempt(run, task)
        self.attempts.append(attempt)
        result = self.script(task)
        if result is not None:
            asyncio.get_running_loop().call_soon(attempt.answer, result)

    def cancel(self, run: RunLoop, step_ids: Sequence[str]) -> None:
        """Record the stopped steps."""
        self.stopped += step_ids

    @property
    def started(self) -> list[str]:
        """The step id of each attempt, in the order of the starts."""
        return [attempt.task.step_id for attempt in self.attempts]

    def last_attempt(self, step_id: str) -> StepAttempt:
        """Return the last attempt of a step."""
        return next(attempt for attempt in reversed(self.attempts) if attempt.task.step_id == step_id)
