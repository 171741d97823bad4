"""Passes large values between steps in a separate driver, and returns the memory that this used."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.support.drivers import driver


@dataclass(frozen=True)
class Figures:
    """Measurements of one value that was passed from one step to another.

    Attributes:
        kind: the kind of value.
        seen: how many bytes of it the consumer saw.
        producer: by how many bytes the memory of the producer's worker grew at most.
        consumer: by how many bytes the memory of the consumer's worker grew at most.
        manager: by how many bytes the memory of the manager grew at most.
        store_seconds: time from the end of the producer's code to the start of reading the consumer's arguments.
        load_seconds: time from there to the start of the consumer's code.
    """

    kind: str
    seen: int
    producer: int
    consumer: int
    manager: int
    store_seconds: float
    load_seconds: float


def through_steps(store: str, size: int, **env: str) -> list[Figures]:
    """Run one workflow for each kind of value.

    Args:
        store: the address of the store.
        size: the size of each value in bytes.
        env: environment variables with credentials.
    """
    with driver("large.py", store, str(size), folder=None, **env) as running:
        assert running.ended(timeout=180) == 0, "the driver failed"
        lines = [json.loads(line) for line in running.output().splitlines() if line.startswith("{")]
    return [Figures(**each) for each in lines]
