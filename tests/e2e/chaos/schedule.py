"""The schedule of faults: which fault happens when. It is a pure function of the seed.

A fault names its target by a number, because the objects that exist at its time are not known in advance.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Kind(str, Enum):
    """A fault."""

    HEAD_KILLED = "head pod killed"
    WORKER_KILLED = "worker pod killed"
    CLUSTER_DELETED = "RayCluster deleted"
    HEAD_FROZEN = "head frozen until after the takeover, then continued"
    DASHBOARD_FROZEN = "only the dashboard frozen, then continued"
    QUOTA = "quota allows no new pod for a time"
    STORE_RESTARTED = "MinIO restarted"
    KUBERAY_KILLED = "KubeRay killed"
    OPERATOR_KILLED = "operator killed"

    def __str__(self) -> str:
        return self.value


FATAL: Final = frozenset({Kind.HEAD_KILLED, Kind.CLUSTER_DELETED, Kind.HEAD_FROZEN})
"""Faults after which the operator may replace the cluster that they hit. After all others, it must not."""

WEIGHTS: Final = {
    Kind.HEAD_KILLED: 4,
    Kind.WORKER_KILLED: 3,
    Kind.CLUSTER_DELETED: 1,
    Kind.HEAD_FROZEN: 1,
    Kind.DASHBOARD_FROZEN: 2,
    Kind.QUOTA: 2,
    Kind.STORE_RESTARTED: 1,
    Kind.KUBERAY_KILLED: 1,
    Kind.OPERATOR_KILLED: 1,
}


@dataclass(frozen=True)
class Fault:
    """One fault of a schedule.

    Attributes:
        after: seconds since the first step of all Workflows.
        kind: what happens.
        target: a number that chooses one of the possible targets.
    """

    after: float
    kind: Kind
    target: int

    def choose(self, names: Sequence[str]) -> str:
        """Return one of the names, in the same way for the same names."""
        return sorted(names)[self.target % len(names)]


def schedule(seed: int, seconds: float, pause: float) -> list[Fault]:
    """Return the faults of a seed. Every kind occurs once before a kind occurs for the second time.

    Args:
        seed: decides everything.
        seconds: no fault begins later.
        pause: the mean time between two faults, in seconds.
    """
    rng = random.Random(seed)
    first = rng.sample(list(Kind), len(Kind))
    found: list[Fault] = []
    after = rng.uniform(0, pause)
    while after < seconds:
        kind = first.pop() if first else rng.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))[0]
        found.append(Fault(after, kind, rng.randrange(2**16)))
        after += rng.uniform(0.3 * pause, 1.7 * pause)
    return found
