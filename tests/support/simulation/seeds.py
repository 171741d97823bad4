"""One seed from beginning to end: the weather, the calm after it, and what must hold then.

    python -m tests.support.simulation.seeds SEED

prints the seed's trace. Called by `tests/faults/test_simulation.py` for a fixed list, and by `tests.faults.soak`.
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

from tests.support import checker, stored
from tests.support.simulation import plans
from tests.support.simulation.clients import Driver, Outsider, Wanted
from tests.support.simulation.collector import Collector, left_behind
from tests.support.simulation.loop import Stuck
from tests.support.simulation.world import World

CALM_SECONDS = 900.0
"""Within which each run must end, once nothing is done to anybody any more."""

WHOLE_FROM = 1_000_000
"""Seeds from here on also draw sleeps, events and leased workers. Those below were there first: they keep what they
found."""

COLLECTED_FROM = 2_000_000
"""Seeds from here on also have a collector, for the same reason."""

PASSING_FROM = 3_000_000
"""Seeds from here on also have steps without a checkpoint; and drivers, outsiders and the collector die."""

KINDS = (0, WHOLE_FROM, COLLECTED_FROM, PASSING_FROM)

QUIET_SECONDS = 60.0
"""Behind the last end, after which nothing that was only for the way may be left in the store."""


@dataclass
class Report:
    """How a seed went.

    Attributes:
        problems: what may not be; empty where all is well.
        counts: what happened, how often.
    """

    seed: int
    problems: list[str]
    trace: str
    fingerprint: str
    counts: dict[str, int] = field(default_factory=dict)

    def told(self) -> str:
        """For whoever has to find out why."""
        problems = "\n".join(self.problems)
        return (
            f"{self.trace}\n\nseed {self.seed} failed:\n{problems}\n"
            f"again: python -m tests.support.simulation.seeds {self.seed}"
        )


def simulate(seed: int) -> Report:
    """Run one seed."""
    with _apart(seed) as world:
        try:
            with _in_virtual_time(world, seed):
                problems = world.loop.run(_life(world, seed), deadline=5_000.0)
        except Stuck as stuck:
            problems = [f"stuck: {stuck}"]
        except Exception:  # noqa: BLE001 - whatever it was, it is told with the trace that led to it
            problems = [f"broke off: {traceback.format_exc()}"]
        problems = world.watch.broken[:3] + problems + world.loop.complaints
        counts = {**world.disk.counts, **world.watch.counts, "callbacks": world.loop.calls}
        return Report(seed, problems, world.traced(), world.fingerprint(), counts)


@contextlib.contextmanager
def _apart(seed: int) -> Iterator[World]:
    """A world, which is taken down again."""
    disabled = logging.root.manager.disable
    collecting = gc.isenabled()
    logging.disable(logging.CRITICAL)
    gc.disable()  # what a collection would end, it would end at a moment that no seed decides
    world = World(seed, whole=seed >= WHOLE_FROM)
    try:
        yield world
    finally:
        world.disk.close()
        world.loop.close()
        if collecting:
            gc.enable()
        logging.disable(disabled)


@contextlib.contextmanager
def _in_virtual_time(world: World, seed: int) -> Iterator[None]:
    """What of the library asks the machine for the time or for a random id gets the seed's."""
    chance = Random(seed + 3)
    loop = world.loop

    def never(seconds: float) -> None:
        raise AssertionError("the engine blocked in real time")

    def random_id() -> uuid.UUID:
        return uuid.UUID(int=chance.getrandbits(128))

    # Small things count as large.
    replaced: dict[str, Any] = {
        "workflow.log.blobs.INLINE_LIMIT": 120,
        "workflow.engine.owner.run_loop.SNAPSHOT_EVERY": chance.choice((3, 10, 2_000)),
        "workflow.engine.owner.planning.MOST_IN_FLIGHT": chance.choice((1, 2, 2_000)),
        "workflow.engine.owner.owned_runs.versions": lambda: "simulated",
        "workflow.requests.versions": lambda: "simulated",
    }
    with contextlib.ExitStack() as stack:
        for where, what in replaced.items():
            stack.enter_context(mock.patch(where, what))
        stack.enter_context(mock.patch.object(time, "time", world.now))
        stack.enter_context(mock.patch.object(time, "monotonic", loop.time))
        stack.enter_context(mock.patch.object(time, "sleep", never))
        stack.enter_context(mock.patch.object(uuid, "uuid4", random_id))
        yield


async def _life(world: World, seed: int) -> list[str]:
    chance = world.chance
    _draw_weather(world)
    for name in ("east", "west", "south")[: chance.choice((2, 2, 3))]:
        world.add_cluster(name)
    wanted = [
        _draw_run(chance, f"w{number}", bool(world.slots), seed >= PASSING_FROM)
        for number in range(chance.choice((1, 2, 4) if world.slots else (1, 1, 2)))
    ]
    drivers = [Driver(world, each) for each in wanted]
    for driver in drivers:
        driver.begin()
    outsider, mortals = Outsider(world), []
    if seed >= COLLECTED_FROM:
        collector = Collector(world, seed + 4)
        collector.begin()
        mortals = [collector.die, outsider.die, *(driver.die for driver in drivers)] if seed >= PASSING_FROM else []
    await _storm(world, wanted, outsider, mortals)
    world.calm()
    began = world.loop.time()
    while not all(each.done for each in wanted) or not all(task.done() for task in outsider.tasks):
        await asyncio.sleep(1.0)
        if world.loop.time() - began > CALM_SECONDS:
            late = [each.workflow_id for each in wanted if not each.done]
            return [f"hang: {', '.join(late) or 'outside'} not done {CALM_SECONDS:.0f} s after all was calm"]
    await asyncio.sleep(QUIET_SECONDS)
    objects = stored.in_memory(world.disk.objects)
    problems = [problem for each in wanted for problem in _problems(world, each, objects)]
    failed = {run for run, seen in world.watch.runs.items() if seen.end is not None and seen.end["status"] == "FAILED"}
    return problems + _junk(world, wanted, objects) + left_behind(world.disk.objects, failed)


def _draw_weather(world: World) -> None:
    """Each seed has its own mix of troubles, and lacks some: all of them together would hide each other."""
    chance, network = world.chance, world.network
    network.slow = chance.choice((0.002, 0.01, 0.05))
    network.lost = chance.choice((0.0, 0.02, 0.1))
    network.unanswered = chance.choice((0.0, 0.02, 0.1))
    network.stalls = chance.choice((0.0, 0.0, 0.01, 0.03))
    world.labour.mean = chance.choice((0.1, 1.0, 3.0, 8.0))
    world.labour.deaths = chance.choice((0.0, 0.0, 0.1, 0.4))


def _draw_run(chance: Random, workflow_id: str, waits: bool, passes: bool) -> Wanted:
    kind = chance.random()
    heals = chance.randint(1, 2) if 0.06 <= kind < 0.14 else 0
    graph = plans.dag(chance, bad=kind < 0.06, heals=heals, waits=waits, passes=passes)
    return Wanted(
        workflow_id,
        graph,
        uid=chance.choice(("", "", "object-1")),
        max_resumes=chance.choice((-1, -1, -1, 0, 2)),
        heals=heals,
    )


async def _storm(world: World, wanted: list[Wanted], outsider: Outsider, mortals: list[Callable[[], None]]) -> None:
    """Do things to everybody for a while."""
    chance = world.chance
    until = chance.choice((5.0, 20.0, 60.0))
    every = until / chance.choice((4.0, 10.0, 20.0))
    troubles = [kind for kind in ("kill", "stop", "cut", "zombie", "leave") if chance.random() < 0.6]
    rare = [kind for kind in ("cancel", "end", "delete", "goodbye") if chance.random() < 0.12]
    while True:
        await asyncio.sleep(chance.expovariate(1.0 / every))
        if world.loop.time() > until:
            return
        acts = troubles + rare + (["die"] if mortals else [])
        if not acts:
            continue
        act = chance.choice(acts)
        if act in rare:
            outsider.act(chance.choice(wanted), act)
        elif act == "die":
            chance.choice(mortals)()
        else:
            await _trouble(world, act)


async def _trouble(world: World, act: str) -> None:
    chance, loop = world.chance, world.loop
    cluster = chance.choice(world.clusters)
    now = cluster.now
    if now is None:
        return
    world.count(f"managers: {act}")
    seconds = chance.choice((0.5, 5.0, 45.0)) * chance.random()
    if act == "kill":
        world.kill(cluster, now, seconds)
    elif act == "stop":
        world.stop(now)
        loop.call_later(seconds, world.go_on, now)
    elif act == "cut":
        world.cut_off(now.process, seconds)
        if chance.random() < 0.5:
            world.cut_off(now.workers, seconds)
    elif act == "zombie":
        world.stop(now)
        loop.call_later(seconds, world.go_on, now)
        cluster.zombies.append(now)
        cluster.now = None
        world.restart(cluster)
    else:
        await world.replace(cluster)


def _problems(world: World, wanted: Wanted, objects: dict[str, bytes]) -> list[str]:
    """What is wrong with one run."""
    names = sorted(key for key in objects if key.startswith(f"workflows/{wanted.workflow_id}/registry/"))
    if names and stored.parsed(names[-1], objects[names[-1]])[1][0]["k"] == "Tombstone":
        swept = stored.parsed(names[-1], objects[names[-1]])[1][0]["reason"] == "Abandoned"
        return [] if swept or wanted.asked & {"end", "delete"} else ["a tombstone that nobody asked for"]
    seen = world.watch.runs.get(wanted.run_uuid)
    end = seen.end if seen is not None else None
    if seen is None or end is None:
        return [f"{wanted.workflow_id} has no end"]
    succeeded = end["status"] == "SUCCESSFUL"
    try:
        checker.check(
            objects, wanted.workflow_id, expected=checker.Expected(wanted.value if succeeded else None, seen.begun)
        )
    except AssertionError as error:
        return [f"{wanted.workflow_id}: {error}"]
    return [problem for problem in (_unfounded(wanted, end), _mistold(wanted, end)) if problem]


def _mistold(wanted: Wanted, end: dict[str, Any]) -> str:
    """What its driver was told that the log does not say, or empty."""
    told = wanted.told
    if told is None:
        return ""
    value = told.outcome.value.inline if told.outcome is not None else None
    wrong = told.status != end["status"] or (value is not None and value != wanted.value)
    return f"its driver was told {told}, the log says {end}" if wrong else ""


def _unfounded(wanted: Wanted, end: dict[str, Any]) -> str:
    """Why the run may not have ended so, or empty."""
    status, reason = end["status"], end.get("reason", "")
    if status == "SUCCESSFUL":
        return "" if wanted.value is not None else "SUCCESSFUL, though a step always raises"
    if status == "CANCELED":
        asked = {"Asked": "cancel", "Outside": "end", "Deleted": "delete"}.get(reason)
        return "" if asked in wanted.asked else f"CANCELED ({reason}), which nobody asked for"
    founded = {
        "StepFailed": wanted.value is None or end["error"]["kind"] != "ValueError" or wanted.heals > 0,
        "ResumesExhausted": wanted.max_resumes >= 0,
        "Outside": "end" in wanted.asked,
    }
    return "" if founded.get(reason) else f"FAILED ({reason}: {end.get('error')}) without a cause"


def _junk(world: World, wanted: list[Wanted], objects: dict[str, bytes]) -> list[str]:
    """What lies about.

    `owned/` of a manager that left for good is the collector's to sweep, with what was asked of the runs it names; and
    what a zombie wrote there that of the next incarnation, when it begins.
    """
    living = {cluster.now.process for cluster in world.clusters if cluster.now is not None}
    unsure = {each.run_uuid for each in wanted if each.unsure}
    for manager in world.left:
        unsure |= {key.rpartition("/")[2] for key in objects if key.startswith(f"owned/{manager}/")}
    found = []
    for key in objects:
        kind, _, rest = key.partition("/")
        left = kind == "owned" and rest.partition("/")[0] not in world.left and world.writer[key] in living
        notified_runs = kind == "doorbell" and rest.partition(".")[0] not in unsure
        asked = "/inbox/" in key and not any(uuid in key for uuid in unsure)
        if left or notified_runs or asked:
            found.append(key)
    return [f"junk: {key}" for key in found]


if __name__ == "__main__":
    report = simulate(int(sys.argv[1]))
    print(report.told() if report.problems else report.trace)
    print(sorted(report.counts.items()))
