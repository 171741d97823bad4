"""Sends large values through steps, in a driver of its own, and reads what memory that took."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.support.drivers import driver


@dataclass(frozen=True)
class Figures:
    """Of one value that went from one step to another.

    Attributes:
        kind: of value.
        seen: bytes of it that the consumer saw.
        producer, consumer: bytes by which the worker's memory grew at most.
        manager: the same of the manager's.
        store_seconds: from the end of the producer's code until the consumer's arguments began to be read.
        load_seconds: from there until the consumer's code began.
    """

    kind: str
    seen: int
    producer: int
    consumer: int
    manager: int
    store_seconds: float
    load_seconds: float


def through_steps(store: str, size: int, **env: str) -> list[Figures]:
    """One run of each kind of value.

    Args:
        store: its address.
        size: bytes of each value.
        env: credentials.
    """
    with driver("large.py", store, str(size), folder=None, **env) as running:
        assert running.ended(timeout=180) == 0, "the driver failed"
        told = [json.loads(line) for line in running.output().splitlines() if line.startswith("{")]
    return [Figures(**each) for each in told]
