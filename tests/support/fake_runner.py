"""A fake of the Ray runner: no Ray and no pickles. The test says what each step does, or answers by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

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
    """A step's value."""
    return Returned(runs.value(text), text, 2.0, 3.0)


def passed(text: str = "v") -> ReturnedEphemeral:
    """A step's value that is not stored."""
    return ReturnedEphemeral(EphemeralValue(runs.value(text)), 2.0, 3.0)


def missing(*step_ids: str) -> InputsLost:
    """A step whose arguments are lost."""
    return InputsLost(step_ids, 2.0, 3.0)


def raised(step_id: str, kind: str = "ValueError") -> Raised:
    """A step's exception."""
    return Raised(ErrorInfo(kind, "boom", step_id=step_id), runs.value("pickled error"), 2.0, 3.0)


def expanded(dag: Graph) -> Expanded:
    """A step that returned a DAG."""
    return Expanded(dag, "", 2.0, 3.0)


@dataclass(frozen=True)
class StepAttempt:
    """One try that was handed to the runner."""

    run: RunLoop
    task: StepTask

    def answer(self, result: StepResult) -> None:
        """The try ends so."""
        self.run.step_done(self.task.step_id, self.task.attempt, result)


Script = Callable[[StepTask], StepResult | None]
"""What a try does; None: nothing, until the test answers by hand."""


@dataclass
class FakeRunner:
    """Runs nothing: answers as its script says, in a later turn of the loop.

    Attributes:
        tries: all that were started, in order.
        stopped: ids of the steps whose tries were stopped.
    """

    script: Script = field(default=lambda task: returned(task.step_id))
    tries: list[StepAttempt] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)

    def start(self, run: RunLoop, step: StepState, task: StepTask) -> None:
        """See the port."""
        each = StepAttempt(run, task)
        self.tries.append(each)
        result = self.script(task)
        if result is not None:
            asyncio.get_running_loop().call_soon(each.answer, result)

    def cancel(self, run: RunLoop, step_ids: Sequence[str]) -> None:
        """See the port."""
        self.stopped += step_ids

    @property
    def started(self) -> list[str]:
        """Ids of the steps started, in order, one for each try."""
        return [each.task.step_id for each in self.tries]

    def of(self, step_id: str) -> StepAttempt:
        """The last try of a step."""
        return next(each for each in reversed(self.tries) if each.task.step_id == step_id)
