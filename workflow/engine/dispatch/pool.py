"""What `leases` keeps of tries, workers and queues: plain data, changed there."""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from workflow.engine.messages import StepTask
from workflow.engine.owner.run_loop import RunLoop

FREED_WHILE_WAITING: Final = frozenset({"num_cpus", "runtime_env", "scheduling_strategy", "label_selector"})
"""Options under which a worker that waits holds nothing that others may need: Ray frees the CPUs of whoever blocks, and
nothing else."""


class Cause(enum.Enum):
    """Why a worker ended before its time.

    Attributes:
        OPTIONS: no worker can be had with these options, however often one is asked for.
        NODE: what it ran on was lost, which is no fault of what it executed.
        WORKER: it died, perhaps of what it executed.
    """

    OPTIONS = enum.auto()
    NODE = enum.auto()
    WORKER = enum.auto()


@dataclass(eq=False, slots=True)
class StepAttempt:
    """One try of a step, on its way.

    Attributes:
        pool: that of its own options, wherever it is executed.
        deaths: how many workers died that executed it, perhaps of it.
    """

    run: RunLoop
    task: StepTask
    pool: Pool
    deaths: int = 0
    stopped: bool = False


@dataclass(eq=False, slots=True)
class Lease:
    """One worker's place.

    Attributes:
        handle: what ends it.
        batch: the tries it executes now.
        own: tries that are to be executed in this very worker.
        kept: it waits for such tries, and for nothing else.
        turn: exchanges so far; a repeated one (its answer was lost) is told by it.
        parked: set while it waits for work.
        alarm: ends the wait.
        stopped: it was ended on purpose: that is no death of the tries it had.
    """

    number: str
    pool: Pool
    handle: Any = None
    batch: list[StepAttempt] = field(default_factory=list)
    own: deque[StepAttempt] = field(default_factory=deque)
    kept: bool = False
    turn: int = 0
    parked: asyncio.Future[tuple[StepTask, ...]] | None = None
    alarm: asyncio.TimerHandle | None = None
    stopped: bool = False


@dataclass(eq=False, slots=True)
class Pool:
    """The workers and the queue of one kind of demand: one set of Ray options.

    Attributes:
        mean: seconds that a step took lately; 0 where none was executed.
        pause: seconds of the last rest; 0 once a worker has asked for work.
        rest: set while no more workers are asked for, because one died before it asked for work.
        handed: tries handed over so far.
        beyond: places asked for beyond those that fit, because nothing moved.
        needless: looks in a row at which nothing waited for a place.
        alarm: looks whether anything moves.
    """

    options: Mapping[str, Any]
    queue: deque[StepAttempt] = field(default_factory=deque)
    leases: dict[str, Lease] = field(default_factory=dict)
    idle: list[Lease] = field(default_factory=list)
    mean: float = 0.0
    pause: float = 0.0
    rest: asyncio.TimerHandle | None = None
    handed: int = 0
    beyond: int = 0
    needless: int = 0
    pumping: bool = False
    alarm: asyncio.TimerHandle | None = None

    @property
    def reusable(self) -> bool:
        """Whether a worker executes more than one step. Not where it would hold a GPU, say, while it waits."""
        return set(self.options) <= FREED_WHILE_WAITING

    @property
    def unused(self) -> bool:
        """Whether nobody needs it: what it knows is only what was measured."""
        return not (self.queue or self.leases or self.alarm or self.rest or self.pumping)

    def starting(self) -> int:
        """Leases that have not asked for work yet."""
        return sum(1 for lease in self.leases.values() if not lease.turn)
