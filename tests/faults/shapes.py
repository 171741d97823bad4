"""The DAGs of the fault tests, what their steps do, and the oracle: what the value must be, by plain recursion.

A step's value is a digest of its name and of its inputs' values, so that a lost, doubled or foreign input shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.support import runs
from tests.support.fake_runner import raised, returned
from workflow.engine.messages import EphemeralValue, Expanded, Returned, ReturnedEphemeral, StepResult, StepTask
from workflow.errors import CorruptLogError
from workflow.log.blobs import INLINE_LIMIT, Blobs
from workflow.model.graph import Graph, StepOptions, Value
from workflow.model.state import Outcome

FOR_EVER = 1_000_000


@dataclass(frozen=True)
class Shape:
    """A run.

    Attributes:
        dag: what it begins with.
        expands: what dynamic steps return.
        raises: how many tries of a step raise, in each epoch.
        large: steps whose value is a blob.
    """

    dag: Graph
    expands: Mapping[str, Graph] = field(default_factory=dict)
    raises: Mapping[str, int] = field(default_factory=dict)
    large: frozenset[str] = frozenset()

    @property
    def steps(self) -> set[str]:
        """All that ever come into being."""
        return {spec.step_id for graph in (self.dag, *self.expands.values()) for spec in graph.steps}

    def value(self, step_id: str, inputs: Sequence[bytes]) -> bytes:
        """What a step makes of its inputs."""
        digest = hashlib.sha256(b"\n".join([step_id.encode(), *inputs])).hexdigest().encode()
        return digest * (1 + INLINE_LIMIT // len(digest)) if step_id in self.large else digest

    def oracle(self) -> bytes:
        """The run's value."""
        found = self._evaluate(self.dag)
        assert found is not None, "a run that is meant to fail has no value"
        return found

    def _evaluate(self, graph: Graph) -> bytes | None:
        """A DAG's value; None where it fails."""
        values: dict[str, bytes] = {}
        for spec in graph.steps:
            found: bytes | None
            if spec.step_id in self.expands:
                found = self._evaluate(self.expands[spec.step_id])
            elif spec.options.allows_attempt_after(self.raises.get(spec.step_id, 0)) or spec.step_id not in self.raises:
                found = self.value(spec.step_id, [values[parent] for parent in spec.parents])
            else:
                found = None
            if found is None:
                if not spec.options.catch_exceptions:
                    return None
                found = raised("any").value.inline
                assert found is not None
            values[spec.step_id] = found
        return values[graph.output]

    def script(self, blobs: Callable[[StepTask], Blobs]) -> Callable[[StepTask], StepResult]:
        """What each try does, for a fake runner; large values are kept in the blobs of its run."""

        def run(task: StepTask) -> StepResult:
            step_id, kept = task.step_id, blobs(task)
            if step_id in self.expands:
                inline, blob = kept.store_graph(self.expands[step_id])
                return Expanded(self.expands[step_id] if inline is None else inline, blob, 2.0, 3.0)
            if task.attempt <= self.raises.get(step_id, 0):
                return raised(step_id)
            try:
                inputs = [_read(task, kept, each) for each in task.parents]
            except CorruptLogError:  # a worker hands that on as the step's failure too
                return raised(step_id)
            data = self.value(step_id, inputs)
            if not task.checkpoint:
                return ReturnedEphemeral(EphemeralValue(Value(inline=data, size=len(data))), 2.0, 3.0)
            value = kept.store_value(data)
            return Returned(value, returned(step_id).text if task.render else "", 2.0, 3.0)

        return run


def _read(task: StepTask, kept: Blobs, parent: Outcome) -> bytes:
    value = task.ephemeral_inputs[parent.ephemeral_step].value if parent.ephemeral_step else parent.value
    assert value is not None, "nothing is lent by reference here"
    return kept.get(value.blob) if value.blob else value.inline or b""


def _wide(size: int) -> Shape:
    children = [f"x/{number}" for number in range(size)]
    return Shape(runs.graph("s x:s end:x"), {"x": runs.graph(f"{' '.join(children)} x/join:{','.join(children)}")})


PASSING = StepOptions(checkpoint=False)
CATCHING = StepOptions(catch_exceptions=True)
SHAPES: Mapping[str, Shape] = {
    "mixed": Shape(
        runs.graph(
            "a b c:a,b x:c y:x,b z:a d:b end:x,y,z,d",
            x=CATCHING,
            y=StepOptions(max_retries=3),
            z=CATCHING,
            d=CATCHING,
        ),
        {
            "x": runs.graph("x/1 x/2 x/3:x/1,x/2"),
            "x/2": runs.graph("x/2/1 x/2/2:x/2/1"),
            "d": runs.graph("d/1 d/2:d/1 d/3 d/4:d/3,d/2"),
        },
        {"y": 2, "z": FOR_EVER, "d/2": FOR_EVER},
        frozenset({"a", "x/1", "x/2/2", "end"}),
    ),
    "passing": Shape(
        runs.graph("a b:a c:a d:b,c x:d end:x,b", a=PASSING, b=PASSING, d=PASSING, x=PASSING),
        {"x": runs.graph("x/1 x/2:x/1 x/3:x/2", x__1=PASSING, x__3=PASSING)},
        large=frozenset({"c", "end"}),
    ),
    "chain": Shape(runs.graph("a b:a c:b end:c"), large=frozenset({"b", "end"})),
    "map of 500": _wide(500),
    "map of 1000": _wide(1_000),
}
