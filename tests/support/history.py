"""What a test expects of a run, and what the checker found in its log. Imports nothing of the library."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Expected:
    """What a test knows about a run from other sources.

    Attributes:
        value: the expected value: its stored bytes, or its rendered text. None if the run need not have succeeded.
        executions: (epoch, step id) of each execution that was seen. It is compared with what was committed before that
            epoch; within an epoch, the StepStarted records are.
    """

    value: bytes | str | None = None
    executions: Iterable[tuple[int, str]] = ()


NO_EXPECTATIONS = Expected()


@dataclass
class History:
    """What the log records about a run.

    Attributes:
        claims: the segment of each epoch's claim, by epoch; that of the first is 0.
        steps: the ids of all steps, in the order in which they were created.
        outcomes: the segment of the outcome of each step, by its id.
        executed: steps whose execution is committed, by a value or by an expansion, in that order.
        starts: (epoch, step id) of each recorded attempt.
        end: the terminal status, or empty.
    """

    claims: dict[int, int] = field(default_factory=lambda: {1: 0})
    steps: list[str] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    starts: list[tuple[int, str]] = field(default_factory=list)
    end: str = ""
