"""Random DAGs whose steps carry what they do in their arguments, and the oracle: what a run of one must end with.

The oracle looks at the DAG alone. A step's value is a digest of its id and of the outcomes it takes, so that one wrong
input anywhere shows in the end value.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from random import Random

from tests.support.runs import FUNCTION, sleeper
from workflow.model import ids
from workflow.model.graph import Graph, StepKind, StepOptions, StepSpec, Value

DEEPEST = 3
ALWAYS = 99
SLEPT = pickle.dumps(None)


@dataclass(frozen=True)
class Behaviour:
    """What one step does.

    Attributes:
        fails: tries of an epoch that raise.
        heals: tries in all, over all epochs, that raise.
        size: bytes of its value.
        expands: seed of the DAG it returns; 0: it returns a value.
        bad: a step of that DAG raises for ever.
        tail: how often it returns just one step like itself before it returns a value.
        depth: dynamic steps around it.
        waits: the DAG that it returns may hold sleeps and events.
        passes: the DAG that it returns may hold steps whose values are not stored.
    """

    fails: int = 0
    heals: int = 0
    size: int = 16
    expands: int = 0
    bad: bool = False
    tail: int = 0
    depth: int = 0
    waits: bool = False
    passes: bool = False

    def encoded(self) -> Value:
        """As the arguments of a step."""
        told = asdict(self)
        for kind in ("waits", "passes"):
            if not told[kind]:
                del told[kind]  # seeds without them keep their bytes
        data = json.dumps(told).encode()
        return Value(inline=data, size=len(data))

    def sub_dag(self, step_id: str) -> Graph | None:
        """The DAG that the step returns, or None."""
        if self.tail:
            (child,) = ids.place(step_id, ["t"])
            after = Behaviour(tail=self.tail - 1, size=self.size, depth=self.depth + 1)
            return Graph((_spec(child, (), after, StepOptions()),), child)
        if self.expands:
            return dag(
                Random(self.expands), step_id, self.depth + 1, bad=self.bad, waits=self.waits, passes=self.passes
            )
        return None


def behaviour_of(args: bytes) -> Behaviour:
    """What the arguments of a step say."""
    return Behaviour(**json.loads(args))


def dag(
    chance: Random,
    parent: str = "",
    depth: int = 0,
    *,
    bad: bool = False,
    heals: int = 0,
    waits: bool = False,
    passes: bool = False,
) -> Graph:
    """A DAG, all of whose steps lead to the last.

    Args:
        chance: draws it.
        parent: the step that returns it.
        depth: dynamic steps around it.
        bad: one of its steps raises for ever, and nothing in it catches that.
        heals: one of its steps raises that often, whatever is tried.
        waits: it may hold sleeps and events.
        passes: it may hold steps whose values are not stored.
    """
    size = chance.randint(1, (14 if waits else 7) if not depth else 4)
    step_ids = ids.place(parent, [chance.choice("ab") for _ in range(size)])
    culprit = chance.randrange(size) if bad or heals else -1
    steps: list[StepSpec] = []
    pending_recovery: set[str] = set()
    for index, step_id in enumerate(step_ids):
        parents = {each for each in step_ids[:index] if chance.random() < 0.35}
        if index == size - 1:
            parents |= pending_recovery
        pending_recovery = (pending_recovery - parents) | {step_id}
        if index == culprit:
            does, options = Behaviour(fails=ALWAYS if bad else 0, heals=heals, depth=depth), StepOptions()
        else:
            does, options = _draw(chance, depth)
        spec = _spec(step_id, tuple(sorted(parents)), does, options)
        if waits and index != culprit:
            spec = _waiting(chance, spec, does)
        if passes and spec.kind is StepKind.TASK:
            spec = _passing(chance, spec)
        steps.append(spec)
    return Graph(tuple(steps), step_ids[-1])


def _draw(chance: Random, depth: int) -> tuple[Behaviour, StepOptions]:
    size = 300 if chance.random() < 0.3 else 16
    kind, catch = chance.random(), chance.random() < 0.2
    if kind < 0.25 and depth < DEEPEST:
        bad = catch and chance.random() < 0.6
        does = Behaviour(expands=chance.getrandbits(32) + 1, bad=bad, depth=depth)
    elif kind < 0.32:
        does = Behaviour(tail=chance.randint(1, 5), size=size, depth=depth)
    elif kind < 0.45:
        fails = chance.randint(1, 2)
        tries = chance.choice((-1, fails + 1, fails + 1))
        return Behaviour(fails=fails, size=size, depth=depth), StepOptions(max_retries=tries, catch_exceptions=catch)
    elif kind < 0.5:
        return Behaviour(fails=ALWAYS, depth=depth), StepOptions(
            max_retries=chance.randint(1, 2), catch_exceptions=True
        )
    else:
        does = Behaviour(size=size, depth=depth)
    return does, StepOptions(max_retries=chance.randint(1, 2), catch_exceptions=catch)


def _spec(step_id: str, parents: tuple[str, ...], does: Behaviour, options: StepOptions) -> StepSpec:
    return StepSpec(step_id, step_id, FUNCTION, "module.step", does.encoded(), parents, options)


def _waiting(chance: Random, spec: StepSpec, does: Behaviour) -> StepSpec:
    """The step, or a wait in its place."""
    kind = chance.random()
    if kind < 0.3 and not spec.parents:
        return sleeper(spec.step_id, chance.choice((0.0, 0.5, 10.0, 60.0)))
    if does.expands:
        spec = replace(spec, args=replace(does, waits=True).encoded())
        return replace(spec, options=replace(spec.options, allow_inplace=kind > 0.8))
    if kind < 0.5 and not does.tail:
        return replace(spec, kind=StepKind.EVENT)
    return replace(spec, options=replace(spec.options, allow_inplace=kind > 0.8))


def _passing(chance: Random, spec: StepSpec) -> StepSpec:
    """The step, or one like it whose value is not stored."""
    assert spec.args.inline is not None
    does = behaviour_of(spec.args.inline)
    if does.expands:
        spec = replace(spec, args=replace(does, passes=True).encoded())
    return replace(spec, options=replace(spec.options, checkpoint=chance.choice((None, False))))


@dataclass(frozen=True)
class Seen:
    """An outcome as its consumers see it."""

    value: bytes
    caught: bool = False
    wraps: int = 0

    def told(self) -> bytes:
        """What a digest takes of it."""
        return f"{int(self.caught)}{self.wraps}".encode() + self.value


class Doomed(Exception):
    """The DAG fails, at this step."""


def value_of(step_id: str, inputs: Sequence[Seen], size: int) -> bytes:
    """What a step returns."""
    digest = hashlib.sha256(step_id.encode())
    for each in inputs:
        digest.update(b"|" + each.told())
    text = digest.hexdigest()[:16].encode()
    return text * (size // 16)


def error_of(step_id: str) -> bytes:
    """What a step raises."""
    return b"error of " + step_id.encode()


def oracle(graph: Graph) -> Seen:
    """The outcome of a DAG.

    Raises:
        Doomed: it can only fail.
    """
    outcomes: dict[str, Seen] = {}
    for spec in graph.steps:
        outcomes[spec.step_id] = _outcome(spec, [outcomes[parent] for parent in spec.parents])
    return outcomes[graph.output]


def _outcome(spec: StepSpec, inputs: Sequence[Seen]) -> Seen:
    if spec.kind is StepKind.SLEEP:
        return Seen(SLEPT)
    assert spec.args.inline is not None
    does, catches = behaviour_of(spec.args.inline), spec.options.catch_exceptions
    below = does.sub_dag(spec.step_id)
    try:
        if does.fails == ALWAYS:
            raise Doomed(spec.step_id)
        if below is None:
            return Seen(value_of(spec.step_id, inputs, does.size), wraps=int(catches))
        seen = oracle(below)
        return Seen(seen.value, seen.caught, seen.wraps + int(catches))
    except Doomed as doomed:
        if not catches:
            raise
        return Seen(error_of(str(doomed)), caught=True)
