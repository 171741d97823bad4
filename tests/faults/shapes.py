"""The DAGs of the fault tests, the behaviour of their steps, and an oracle that computes the value of a run.

The value of a step is a digest of its id and of the values of its inputs. A missing, repeated or wrong input therefore
changes the value of the run.
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

ALWAYS = 1_000_000


@dataclass(frozen=True)
class Shape:
    """A DAG and the behaviour of its steps.

    Attributes:
        dag: the DAG with which the run starts.
        expands: dynamic step -> the DAG that it returns.
        raises: step -> number of attempts that raise in each epoch.
        large: steps whose value is a blob.
    """

    dag: Graph
    expands: Mapping[str, Graph] = field(default_factory=dict)
    raises: Mapping[str, int] = field(default_factory=dict)
    large: frozenset[str] = frozenset()

    @property
    def steps(self) -> set[str]:
        """The ids of all steps that the run can contain."""
        return {spec.step_id for graph in (self.dag, *self.expands.values()) for spec in graph.steps}

    def value(self, step_id: str, inputs: Sequence[bytes]) -> bytes:
        """Return the value of a step for given inputs."""
        digest = hashlib.sha256(b"\n".join([step_id.encode(), *inputs])).hexdigest().encode()
        return digest * (1 + INLINE_LIMIT // len(digest)) if step_id in self.large else digest

    def oracle(self) -> bytes:
        """Return the value of the run."""
        found = self._evaluate(self.dag)
        assert found is not None, "the run always fails, so it has no value"
        return found

    def _evaluate(self, graph: Graph) -> bytes | None:
        """Return the value of a DAG, or None if it fails."""
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
        """Return a function that executes attempts for a fake runner, and stores large values as blobs."""

        def run(task: StepTask) -> StepResult:
            step_id, blobs_of_run = task.step_id, blobs(task)
            if step_id in self.expands:
                inline, blob = blobs_of_run.store_graph(self.expands[step_id])
                return Expanded(self.expands[step_id] if inline is None else inline, blob, 2.0, 3.0)
            if task.attempt <= self.raises.get(step_id, 0):
                return raised(step_id)
            try:
                inputs = [_read(task, blobs_of_run, each) for each in task.parents]
            except CorruptLogError:  # a worker also reports this as an error of the step
                return raised(step_id)
            data = self.value(step_id, inputs)
            if not task.checkpoint:
                return ReturnedEphemeral(EphemeralValue(Value(inline=data, size=len(data))), 2.0, 3.0)
            value = blobs_of_run.store_value(data)
            return Returned(value, returned(step_id).text if task.render else "", 2.0, 3.0)

        return run


def _read(task: StepTask, blobs: Blobs, parent: Outcome) -> bytes:
    value = task.ephemeral_inputs[parent.ephemeral_step].value if parent.ephemeral_step else parent.value
    assert value is not None, "this runner returns ephemeral values inline"
    return blobs.get(value.blob) if value.blob else value.inline or b""


def _wide(size: int) -> Shape:
    children = [f"x/{number}" for number in range(size)]
    return Shape(runs.graph("s x:s end:x"), {"x": runs.graph(f"{' '.join(children)} x/join:{','.join(children)}")})


EPHEMERAL = StepOptions(checkpoint=False)
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
        {"y": 2, "z": ALWAYS, "d/2": ALWAYS},
        frozenset({"a", "x/1", "x/2/2", "end"}),
    ),
    "ephemeral": Shape(
        runs.graph("a b:a c:a d:b,c x:d end:x,b", a=EPHEMERAL, b=EPHEMERAL, d=EPHEMERAL, x=EPHEMERAL),
        {"x": runs.graph("x/1 x/2:x/1 x/3:x/2", x__1=EPHEMERAL, x__3=EPHEMERAL)},
        large=frozenset({"c", "end"}),
    ),
    "chain": Shape(runs.graph("a b:a c:b end:c"), large=frozenset({"b", "end"})),
    "map of 500": _wide(500),
    "map of 1000": _wide(1_000),
}
