"""Random DAGs, and the oracle that computes the expected value of a run.

The arguments of a step describe its behaviour. The oracle uses only the DAG. The value of a step is a digest of its id
and of the outcomes of its parents. A wrong input anywhere therefore changes the value of the run.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random

from tests.support.runs import FUNCTION, sleeper
from workflow.model import ids
from workflow.model.graph import Graph, StepKind, StepOptions, StepSpec, Value, WaitOptions

DEEPEST = 3
ALWAYS = 99
SLEPT = pickle.dumps(None)
"""The stored value of a sleep."""


_ARGUMENT_NAMES = {
    "failures_per_epoch": "fails",
    "failures_in_total": "heals",
    "always_fails": "bad",
    "ephemeral": "passes",
}
"""Field -> its name in the arguments of a step.

Do not change these names. The size of the arguments decides what becomes a blob, and so the course of every seed.
"""


@dataclass(frozen=True)
class Behaviour:
    """The behaviour of one step.

    Attributes:
        failures_per_epoch: number of attempts that raise in each epoch.
        failures_in_total: number of attempts that raise over all epochs.
        size: size of the value in bytes.
        expands: seed of the DAG that the step returns. 0 means that it returns a value.
        always_fails: one step of the returned DAG always raises.
        tail: number of steps like this one that are returned, one after the other, before the value.
        depth: number of dynamic steps around this one.
        waits: the returned DAG may contain sleeps and events.
        ephemeral: the returned DAG may contain steps with ephemeral values.
        some: the returned DAG may contain steps that wait for some of several, and takes what such a step left over.
    """

    failures_per_epoch: int = 0
    failures_in_total: int = 0
    size: int = 16
    expands: int = 0
    always_fails: bool = False
    tail: int = 0
    depth: int = 0
    waits: bool = False
    ephemeral: bool = False
    some: bool = False

    def to_args(self) -> Value:
        """Return the behaviour as arguments of a step."""
        fields = {_ARGUMENT_NAMES.get(name, name): value for name, value in asdict(self).items()}
        for name in ("waits", "passes", "some"):
            if not fields[name]:
                del fields[name]  # older seeds do not have it
        data = json.dumps(fields).encode()
        return Value(inline=data, size=len(data))

    def sub_dag(self, step_id: str, remaining: Sequence[str] = ()) -> Graph | None:
        """Return the DAG that the step returns, or None.

        Args:
            step_id: the step.
            remaining: the steps that waits left over, if the step takes their decisions.
        """
        if self.tail:
            (child,) = ids.place(step_id, ["t"])
            after = Behaviour(tail=self.tail - 1, size=self.size, depth=self.depth + 1)
            return Graph((_spec(child, (), after, StepOptions()),), child)
        if self.expands:
            found = dag(
                Random(self.expands),
                step_id,
                self.depth + 1,
                always_fails=self.always_fails,
                waits=self.waits,
                ephemeral=self.ephemeral,
            )
            return _taking(deciding(Random(self.expands + 1), found), remaining) if self.some else found
        return None


def behaviour_of(args: bytes) -> Behaviour:
    """Return the behaviour that the arguments of a step describe."""
    names = {short: name for name, short in _ARGUMENT_NAMES.items()}
    return Behaviour(**{names.get(name, name): value for name, value in json.loads(args).items()})


def dag(
    chance: Random,
    parent: str = "",
    depth: int = 0,
    *,
    always_fails: bool = False,
    failures_in_total: int = 0,
    waits: bool = False,
    ephemeral: bool = False,
) -> Graph:
    """Return a random DAG. Its output depends on all of its steps.

    Args:
        chance: source of the random choices.
        parent: id of the step that returns the DAG, or empty.
        depth: number of dynamic steps around it.
        always_fails: one of its steps always raises, and no step of the DAG catches that.
        failures_in_total: number of attempts of one step that raise, over all epochs.
        waits: the DAG may contain sleeps and events.
        ephemeral: the DAG may contain steps with ephemeral values.
    """
    size = chance.randint(1, (14 if waits else 7) if not depth else 4)
    step_ids = ids.place(parent, [chance.choice("ab") for _ in range(size)])
    failing_index = chance.randrange(size) if always_fails or failures_in_total else -1
    steps: list[StepSpec] = []
    without_consumer: set[str] = set()
    for index, step_id in enumerate(step_ids):
        parents = {each for each in step_ids[:index] if chance.random() < 0.35}
        if index == size - 1:
            parents |= without_consumer
        without_consumer = (without_consumer - parents) | {step_id}
        if index == failing_index:
            failures_per_epoch = ALWAYS if always_fails else 0
            behaviour, options = Behaviour(failures_per_epoch, failures_in_total, depth=depth), StepOptions()
        else:
            behaviour, options = _draw(chance, depth)
        spec = _spec(step_id, tuple(sorted(parents)), behaviour, options)
        if waits and index != failing_index:
            spec = _with_wait(chance, spec, behaviour)
        if ephemeral and spec.kind is StepKind.TASK:
            spec = _with_ephemeral_value(chance, spec)
        steps.append(spec)
    return Graph(tuple(steps), step_ids[-1])


def deciding(chance: Random, graph: Graph) -> Graph:
    """Return a DAG in which some steps wait for some of their parents. What these wait for never fails."""
    failing: set[str] = set()
    steps: list[StepSpec] = []
    for spec in graph.steps:
        behaviour = behaviour_of(spec.args.inline) if spec.args.inline is not None else Behaviour()
        always = behaviour.failures_per_epoch == ALWAYS and not spec.options.catch_exceptions
        if always or behaviour.failures_in_total or not failing.isdisjoint(spec.parents):
            failing.add(spec.step_id)
        if spec.parents and spec.step_id not in {graph.output, *failing} and chance.random() < 0.6:
            steps.append(_waiter(chance, spec))
        elif behaviour.expands:
            steps.append(replace(spec, args=replace(behaviour, some=True).to_args()))
        else:
            steps.append(spec)
    return Graph(tuple(steps), graph.output)


def _waiter(chance: Random, spec: StepSpec) -> StepSpec:
    """Return a step that waits for some of the parents of another one, in its place."""
    wait = WaitOptions(chance.randint(1, len(spec.parents)), chance.choice((None, None, 0.0, 1.0, 20.0)))
    step_id = spec.step_id
    return StepSpec(step_id, step_id, "", "module.wait", Value(), spec.parents, kind=StepKind.WAIT, wait=wait)


def _taking(graph: Graph, remaining: Sequence[str]) -> Graph:
    """Return a DAG whose last step takes what waits left over, too."""
    *others, last = graph.steps
    return Graph((*others, replace(last, parents=(*last.parents, *remaining[:2]))), graph.output)


def _draw(chance: Random, depth: int) -> tuple[Behaviour, StepOptions]:
    size = 300 if chance.random() < 0.3 else 16
    kind, catch = chance.random(), chance.random() < 0.2
    if kind < 0.25 and depth < DEEPEST:
        always_fails = catch and chance.random() < 0.6
        behaviour = Behaviour(expands=chance.getrandbits(32) + 1, always_fails=always_fails, depth=depth)
    elif kind < 0.32:
        behaviour = Behaviour(tail=chance.randint(1, 5), size=size, depth=depth)
    elif kind < 0.45:
        failures = chance.randint(1, 2)
        max_retries = chance.choice((-1, failures + 1, failures + 1))
        options = StepOptions(max_retries=max_retries, catch_exceptions=catch)
        return Behaviour(failures_per_epoch=failures, size=size, depth=depth), options
    elif kind < 0.5:
        return Behaviour(failures_per_epoch=ALWAYS, depth=depth), StepOptions(
            max_retries=chance.randint(1, 2), catch_exceptions=True
        )
    else:
        behaviour = Behaviour(size=size, depth=depth)
    return behaviour, StepOptions(max_retries=chance.randint(1, 2), catch_exceptions=catch)


def _spec(step_id: str, parents: tuple[str, ...], behaviour: Behaviour, options: StepOptions) -> StepSpec:
    return StepSpec(step_id, step_id, FUNCTION, "module.step", behaviour.to_args(), parents, options)


def _with_wait(chance: Random, spec: StepSpec, behaviour: Behaviour) -> StepSpec:
    """Return the step, or a sleep or an event in its place."""
    kind = chance.random()
    if kind < 0.3 and not spec.parents:
        return sleeper(spec.step_id, chance.choice((0.0, 0.5, 10.0, 60.0)))
    if behaviour.expands:
        spec = replace(spec, args=replace(behaviour, waits=True).to_args())
        return replace(spec, options=replace(spec.options, allow_inplace=kind > 0.8))
    if kind < 0.5 and not behaviour.tail:
        return replace(spec, kind=StepKind.EVENT)
    return replace(spec, options=replace(spec.options, allow_inplace=kind > 0.8))


def _with_ephemeral_value(chance: Random, spec: StepSpec) -> StepSpec:
    """Return the step, perhaps with `checkpoint=False`."""
    assert spec.args.inline is not None
    behaviour = behaviour_of(spec.args.inline)
    if behaviour.expands:
        spec = replace(spec, args=replace(behaviour, ephemeral=True).to_args())
    return replace(spec, options=replace(spec.options, checkpoint=chance.choice((None, False))))


@dataclass(frozen=True)
class VisibleOutcome:
    """An outcome as its consumers see it.

    Attributes:
        value: the value, or the error that was caught.
        caught: the step raised, and `catch_exceptions` turned the error into an outcome.
        wrapped: a step with `catch_exceptions` returned the value.
        remaining: the steps that it left over, if it is the decision of a wait.
    """

    value: bytes
    caught: bool = False
    wrapped: bool = False
    remaining: tuple[str, ...] = ()

    def digest_input(self) -> bytes:
        """Return the bytes that represent this outcome in a digest."""
        return f"{int(self.caught)}{int(self.wrapped)}".encode() + self.value


class RunFailsError(Exception):
    """The DAG fails at this step."""


def value_of(step_id: str, inputs: Sequence[VisibleOutcome], size: int) -> bytes:
    """Return the value of a step."""
    digest = hashlib.sha256(step_id.encode())
    for each in inputs:
        digest.update(b"|" + each.digest_input())
    text = digest.hexdigest()[:16].encode()
    return text * (size // 16)


def error_of(step_id: str) -> bytes:
    """Return the stored error of a step."""
    return b"error of " + step_id.encode()


def decided(ready: Sequence[VisibleOutcome], remaining: Sequence[str]) -> VisibleOutcome:
    """Return the outcome of a wait."""
    value = b";".join((b"|".join(each.digest_input() for each in ready), *map(str.encode, remaining)))
    return VisibleOutcome(value, remaining=tuple(remaining))


def oracle(graph: Graph, decisions: Mapping[str, Sequence[str]] | None = None) -> VisibleOutcome:
    """Return the outcome of a DAG.

    Args:
        graph: the DAG.
        decisions: what was ready, for each wait that was decided. For the others, it is the first parents.

    Raises:
        RunFailsError: the DAG always fails.
    """
    return _Oracle(decisions or {}).outcome_of(graph)


class _Oracle:
    def __init__(self, decisions: Mapping[str, Sequence[str]]) -> None:
        self._decisions = decisions
        self._specs: dict[str, StepSpec] = {}
        self._outcomes: dict[str, VisibleOutcome] = {}

    def outcome_of(self, graph: Graph) -> VisibleOutcome:
        self._specs.update((spec.step_id, spec) for spec in graph.steps)
        if not any(spec.wait for spec in graph.steps):
            for spec in graph.steps:  # the first step that fails is the one whose error is caught
                self._of(spec.step_id)
        return self._of(graph.output)

    def _of(self, step_id: str) -> VisibleOutcome:
        if step_id not in self._outcomes:
            self._outcomes[step_id] = self._computed(self._specs[step_id])
        return self._outcomes[step_id]

    def _computed(self, spec: StepSpec) -> VisibleOutcome:
        if spec.kind is StepKind.SLEEP:
            return VisibleOutcome(SLEPT)
        if spec.wait is not None:
            ready = self._decisions.get(spec.step_id, spec.parents[: spec.wait.num_returns])
            return decided([self._of(each) for each in ready], [each for each in spec.parents if each not in ready])
        inputs = [self._of(parent) for parent in spec.parents]
        assert spec.args.inline is not None
        behaviour, catches = behaviour_of(spec.args.inline), spec.options.catch_exceptions
        sub_dag = behaviour.sub_dag(spec.step_id, [each for found in inputs for each in found.remaining])
        try:
            if behaviour.failures_per_epoch == ALWAYS:
                raise RunFailsError(spec.step_id)
            if sub_dag is None:
                return VisibleOutcome(value_of(spec.step_id, inputs, behaviour.size), wrapped=catches)
            result = self.outcome_of(sub_dag)
            return VisibleOutcome(result.value, result.caught, not result.caught and (result.wrapped or catches))
        except RunFailsError as failure:
            if not catches:
                raise
            return VisibleOutcome(error_of(str(failure)), caught=True)
