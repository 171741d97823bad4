"""The simulation of one seed: random faults, recovery, and the checks afterwards.

    python -m tests.support.simulation.scenario SEED

prints the trace of a seed. `tests/faults/test_simulation.py` runs a fixed list of seeds, and `tests.faults.soak` many.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any
from unittest import mock

from tests.support import stored
from tests.support.simulation import random_dags
from tests.support.simulation.checks import problems_of, unneeded_keys
from tests.support.simulation.clients import Driver, OutsideClient, RunPlan
from tests.support.simulation.collector import Collector, leftovers
from tests.support.simulation.environment import Environment
from tests.support.simulation.loop import StuckError

RECOVERY_SECONDS = 900.0
"""Virtual seconds after the last fault within which each run must finish."""

EXTENDED_FROM = 1_000_000
"""Seeds from this number on also use sleeps, events and leased workers.

Older seeds keep their course, so that they still reproduce the bugs that they found.
"""

COLLECTOR_FROM = 2_000_000
"""Seeds from this number on also collect garbage."""

EPHEMERAL_FROM = 3_000_000
"""Seeds from this number on also use ephemeral values, and kill drivers, outside clients and the collector."""

RIVALS_FROM = 4_000_000
"""Seeds from this number on also have a second Workflow object, which claims runs while requests are sent to them."""

WAITS_FROM = 5_000_000
"""Seeds from this number on also have steps that wait for some of several others."""

SERIES = (0, EXTENDED_FROM, COLLECTOR_FROM, EPHEMERAL_FROM, RIVALS_FROM, WAITS_FROM)

QUIET_SECONDS = 60.0
"""Virtual seconds after the last run finished. No temporary key may be in the store after that."""


@dataclass
class Report:
    """The result of one seed.

    Attributes:
        seed: number of the seed.
        problems: everything that must not happen. Empty if the seed passed.
        trace: the trace as text.
        fingerprint: digest of the trace.
        counts: number of events by name.
    """

    seed: int
    problems: list[str]
    trace: str
    fingerprint: str
    counts: dict[str, int] = field(default_factory=dict)

    def describe(self) -> str:
        """Return the trace, the problems, and the command that reproduces them."""
        problems = "\n".join(self.problems)
        return (
            f"{self.trace}\n\nseed {self.seed} failed:\n{problems}\n"
            f"reproduce with: python -m tests.support.simulation.scenario {self.seed}"
        )


def simulate(seed: int) -> Report:
    """Simulate one seed."""
    with _environment_of(seed) as environment:
        try:
            with _in_virtual_time(environment, seed):
                problems = environment.loop.run(_run_scenario(environment, seed), deadline=5_000.0)
        except StuckError as stuck:
            problems = [f"stuck: {stuck}"]
        except Exception:  # noqa: BLE001 - the report shows every error together with its trace
            problems = [f"error: {traceback.format_exc()}"]
        problems = environment.observer.violations[:3] + problems + environment.loop.unhandled_errors
        counts = {**environment.shared.counts, **environment.observer.counts, "callbacks": environment.loop.calls}
        return Report(seed, problems, environment.trace_text(), environment.fingerprint(), counts)


@contextlib.contextmanager
def _environment_of(seed: int) -> Iterator[Environment]:
    """Create the environment of a seed, and close it afterwards."""
    disabled = logging.root.manager.disable
    collecting = gc.isenabled()
    logging.disable(logging.CRITICAL)
    gc.disable()  # a collection would close coroutines at a time that the seed does not decide
    environment = Environment(seed, extended=seed >= EXTENDED_FROM)
    try:
        yield environment
    finally:
        environment.shared.close()
        environment.loop.close()
        if collecting:
            gc.enable()
        logging.disable(disabled)


@contextlib.contextmanager
def _in_virtual_time(environment: Environment, seed: int) -> Iterator[None]:
    """Make the library use virtual time and the random ids of the seed."""
    chance = Random(seed + 3)
    loop = environment.loop

    def refuse_to_sleep(seconds: float) -> None:
        raise AssertionError("the engine blocked in real time")

    def random_id() -> uuid.UUID:
        return uuid.UUID(int=chance.getrandbits(128))

    # Low limits, so that small runs use blobs, snapshots and full queues.
    replaced: dict[str, Any] = {
        "workflow.log.blobs.INLINE_LIMIT": 120,
        "workflow.engine.owner.run_loop.SNAPSHOT_EVERY": chance.choice((3, 10, 2_000)),
        "workflow.engine.owner.planning.MAX_RUNNING_TASKS": chance.choice((1, 2, 2_000)),
        "workflow.engine.owner.owned_runs.versions": lambda: "simulated",
        "workflow.requests.versions": lambda: "simulated",
    }
    with contextlib.ExitStack() as stack:
        for where, what in replaced.items():
            stack.enter_context(mock.patch(where, what))
        stack.enter_context(mock.patch.object(time, "time", environment.now))
        stack.enter_context(mock.patch.object(time, "monotonic", loop.time))
        stack.enter_context(mock.patch.object(time, "sleep", refuse_to_sleep))
        stack.enter_context(mock.patch.object(uuid, "uuid4", random_id))
        yield


async def _run_scenario(environment: Environment, seed: int) -> list[str]:
    chance = environment.chance
    _choose_fault_rates(environment, seed)
    for name in ("east", "west", "south")[: chance.choice((2, 2, 3))]:
        environment.add_cluster(name)
    plans = [
        _random_run(chance, f"w{number}", bool(environment.slots), seed >= EPHEMERAL_FROM, seed >= WAITS_FROM)
        for number in range(chance.choice((1, 2, 4) if environment.slots else (1, 1, 2)))
    ]
    if seed >= RIVALS_FROM:
        for plan in plans:
            plan.uid = "object-1"
    drivers = [Driver(environment, plan) for plan in plans]
    for driver in drivers:
        driver.start()
    outside, kill_client = OutsideClient(environment), []
    if seed >= COLLECTOR_FROM:
        collector = Collector(environment, seed + 4)
        collector.start()
        if seed >= EPHEMERAL_FROM:
            kill_client = [collector.die, outside.die, *(driver.die for driver in drivers)]
    await _inject_faults(environment, plans, outside, kill_client, rivals=seed >= RIVALS_FROM)
    environment.stop_faults()
    faults_stopped = environment.loop.time()
    while not all(plan.done for plan in plans) or not all(task.done() for task in outside.tasks):
        await asyncio.sleep(1.0)
        if environment.loop.time() - faults_stopped > RECOVERY_SECONDS:
            late = ", ".join(plan.workflow_id for plan in plans if not plan.done) or "the outside client"
            return [f"hang: {late} not done {RECOVERY_SECONDS:.0f} s after the last fault"]
    await asyncio.sleep(QUIET_SECONDS)
    objects = stored.in_memory(environment.shared.objects)
    problems = [problem for plan in plans for problem in problems_of(environment, plan, objects)]
    failed = {
        run_uuid
        for run_uuid, run in environment.observer.runs.items()
        if run.terminal is not None and run.terminal["status"] == "FAILED"
    }
    return problems + unneeded_keys(environment, plans, objects) + leftovers(environment.shared.objects, failed)


def _choose_fault_rates(environment: Environment, seed: int) -> None:
    """Choose a mix of faults. Each seed lacks some of them, because all faults together would hide each other."""
    chance, network = environment.chance, environment.network
    network.mean_delay = chance.choice((0.002, 0.01, 0.05))
    network.loss_rate = chance.choice((0.0, 0.02, 0.1))
    network.reply_loss_rate = chance.choice((0.0, 0.02, 0.1))
    network.stall_rate = chance.choice((0.0, 0.0, 0.01, 0.03))
    environment.worker_model.mean_duration = chance.choice((0.1, 1.0, 3.0, 8.0))
    environment.worker_model.limits_deaths = seed >= WAITS_FROM
    environment.worker_model.death_rate = chance.choice((0.0, 0.0, 0.1, 0.4))


def _random_run(chance: Random, workflow_id: str, waits: bool, ephemeral: bool, some: bool) -> RunPlan:
    kind = chance.random()
    failures_in_total = chance.randint(1, 2) if 0.06 <= kind < 0.14 else 0
    graph = random_dags.dag(
        chance,
        always_fails=kind < 0.06,
        failures_in_total=failures_in_total,
        waits=waits,
        ephemeral=ephemeral,
    )
    if some:
        graph = random_dags.deciding(chance, graph)
    return RunPlan(
        workflow_id,
        graph,
        uid=chance.choice(("", "", "object-1")),
        max_resumes=chance.choice((-1, -1, -1, 0, 2)),
        failures_in_total=failures_in_total,
    )


async def _inject_faults(
    environment: Environment,
    plans: list[RunPlan],
    outside: OutsideClient,
    kill_client: list[Callable[[], None]],
    *,
    rivals: bool,
) -> None:
    """Inject random faults for a while: into managers, requests from outside, and deaths of clients."""
    chance = environment.chance
    until = chance.choice((5.0, 20.0, 60.0))
    interval = until / chance.choice((4.0, 10.0, 20.0))
    manager_faults = [kind for kind in ("kill", "stop", "disconnect", "zombie", "leave") if chance.random() < 0.6]
    requests = [kind for kind in ("cancel", "end", "delete", "release") if chance.random() < 0.12]
    requests += ["contend"] * (4 if rivals else 0)
    while True:
        await asyncio.sleep(chance.expovariate(1.0 / interval))
        if environment.loop.time() > until:
            return
        actions = manager_faults + requests + (["kill client"] if kill_client else [])
        if not actions:
            continue
        action = chance.choice(actions)
        if action in requests:
            outside.send(chance.choice(plans), action)
        elif action == "kill client":
            chance.choice(kill_client)()
        else:
            await _inject_manager_fault(environment, action)


async def _inject_manager_fault(environment: Environment, fault: str) -> None:
    chance, loop = environment.chance, environment.loop
    cluster = chance.choice(environment.clusters)
    manager = cluster.current
    if manager is None:
        return
    environment.count(f"managers: {fault}")
    seconds = chance.choice((0.5, 5.0, 45.0)) * chance.random()
    if fault == "kill":
        environment.kill(cluster, manager, seconds)
    elif fault == "stop":
        environment.stop(manager)
        loop.call_later(seconds, environment.resume, manager)
    elif fault == "disconnect":
        environment.disconnect(manager.process, seconds)
        if chance.random() < 0.5:
            environment.disconnect(manager.workers, seconds)
    elif fault == "zombie":
        environment.stop(manager)
        loop.call_later(seconds, environment.resume, manager)
        cluster.zombies.append(manager)
        cluster.current = None
        environment.restart(cluster)
    else:
        await environment.replace_manager(cluster)


if __name__ == "__main__":
    report = simulate(int(sys.argv[1]))
    print(report.describe() if report.problems else report.trace)
    print(sorted(report.counts.items()))
