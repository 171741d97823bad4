"""The world of one seed: store, network, clusters with a manager each, and what may be done to them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from tests.support.simulation.disk import Disk, Network, Reached, SimulatedThreads
from tests.support.simulation.leased import LeasedRunner
from tests.support.simulation.loop import Process, VirtualLoop, answer, context_of
from tests.support.simulation.watch import Watch, owner_of
from tests.support.simulation.workers import Labour, SimulatedRunner
from workflow.engine.owner.manager import Intervals, Manager
from workflow.engine.owner.runtime import Runtime
from workflow.log import keys
from workflow.model.run_view import Owner

T = TypeVar("T")

EPOCH = 1_700_000_000.0


class Died(Exception):
    """Whom one asked is dead: what Ray's RayActorError is."""


class VirtualClock:
    """The engine's clocks, by the loop's time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        """See the port."""
        return EPOCH + self._loop.time()

    def monotonic(self) -> float:
        """See the port."""
        return self._loop.time()


@dataclass(eq=False)
class Incarnation:
    """One process of a manager, and its workers."""

    process: Process
    workers: Process
    manager: Manager
    ready: bool = False
    asked: dict[asyncio.Future[Any], None] = field(default_factory=dict)


@dataclass(eq=False)
class Cluster:
    """A cluster, whose manager is restarted where it dies.

    Attributes:
        manager_id: kept over restarts; another once a manager has left.
        now: the incarnation that Ray knows of.
        zombies: earlier ones that may still go on.
    """

    name: str
    manager_id: str
    now: Incarnation | None = None
    zombies: list[Incarnation] = field(default_factory=list)
    number: int = 0


class World:
    """All of it.

    Args:
        seed: decides everything.
        whole: its managers lease their workers.

    Attributes:
        chance: what else is drawn, apart from the order of callbacks.
        slots: leased workers that fit into a cluster; 0: workers are not leased.
        stormy: whether things are still done to it.
        left: ids of managers that left for good.
        writer: whose process created a key last.
        notes: lines of the trace that the store does not tell.
    """

    def __init__(self, seed: int, *, whole: bool) -> None:
        self.chance = Random(seed)
        self.loop = VirtualLoop(Random(seed + 1), shuffled=self.chance.random() < 0.7)  # type: ignore[abstract]  # what the engine needs of a loop
        self.network = Network(Random(seed + 2))
        self.watch = Watch()
        self.disk = Disk(self.loop, self.network, self._told, f"seed-{seed}")
        self.labour = Labour(self.chance, self.disk, self.watch, 1.0, 0.0, {})
        self.slots = self.chance.choice((1, 1, 2, 4)) if whole else 0
        self.clusters: list[Cluster] = []
        self.processes: list[Process] = []
        self.pace = Intervals(heartbeat=5.0, notifications=2.0, fence=20.0, follow=0.5, retry=1.0)
        self.stormy = True
        self.left: set[str] = set()
        self.writer: dict[str, Process] = {}
        self.trace: list[tuple[float, str, str]] = []

    # --- what happened ---

    def note(self, who: str, what: str) -> None:
        """A line of the trace."""
        self.trace.append((self.loop.time(), who, what))

    def count(self, what: str) -> None:
        """One more of it."""
        self.disk.count(what)

    def _told(self, method: str, key: str, data: bytes, process: Process) -> None:
        who = owner_of(process)
        if method == "create" and "/log/" in key:
            self.note(who, self.watch.stored(self.disk.objects, key, data))
        elif method == "refused":
            if "/log/" in key:
                self.count("fences met")
                self.note(who, f"refused {key.rpartition('/runs/')[2]}")
        elif method == "create":
            self.writer[key] = process
            self.watch.asked(key)
            self.note(who, f"+ {_short(key)}")
        else:
            self.watch.deleted(key)
            self.note(who, f"- {_short(key)}")

    def traced(self) -> str:
        """The trace as text."""
        return "\n".join(f"{at:9.3f} {who:10} {what}" for at, who, what in self.trace)

    def fingerprint(self) -> str:
        """Two seeds' traces are one where this is."""
        return hashlib.sha256(self.traced().encode()).hexdigest()

    def now(self) -> float:
        """Seconds since 1970."""
        return EPOCH + self.loop.time()

    # --- processes ---

    def process(self, name: str) -> Process:
        """A new one."""
        made = Process(name)
        self.processes.append(made)
        return made

    def reached_by(self, process: Process) -> tuple[Reached, SimulatedThreads]:
        """The store as a process reaches it, and threads to do so."""
        return Reached(self.disk, process), SimulatedThreads(self.disk, process)

    def add_cluster(self, name: str) -> Cluster:
        """A cluster whose first manager comes up."""
        cluster = Cluster(name, f"manager-{name}")
        self.clusters.append(cluster)
        self.restart(cluster)
        return cluster

    def restart(self, cluster: Cluster) -> None:
        """Ray brings the manager up; the incarnation before it is dead, or cut off and not known to Ray any more."""
        cluster.number += 1
        name = f"{cluster.name}.{cluster.number}"
        process, workers = self.process(name), self.process(f"{name}.work")
        me = Owner(cluster.manager_id, f"i{cluster.number}", f"address-{cluster.name}")
        runner = (
            LeasedRunner(process, workers, self.labour, self.slots)
            if self.slots
            else SimulatedRunner(process, workers, self.labour)
        )
        machine = Runtime(VirtualClock(self.loop), lambda: SimulatedThreads(self.disk, process))
        manager = Manager(Reached(self.disk, process), me, runner, self.pace, runtime=machine)
        incarnation = Incarnation(process, workers, manager)
        cluster.now = incarnation
        self.note(name, f"begins as {me.manager}")
        self.loop.spawn(process, self._begin(incarnation))
        self.loop.spawn(process, self._end_when_replaced(cluster, incarnation))

    async def _end_when_replaced(self, cluster: Cluster, incarnation: Incarnation) -> None:
        await incarnation.manager.replaced.wait()
        self.note(incarnation.process.name, "knows that it was replaced")
        self.loop.call_soon(self.kill, cluster, incarnation, 0.1, context=context_of(None))

    async def _begin(self, incarnation: Incarnation) -> None:
        incarnation.ready = True
        await incarnation.manager.begin()

    def kill(self, cluster: Cluster, incarnation: Incarnation, restart_after: float) -> None:
        """SIGKILL; its workers end with it, now or a little later."""
        process = incarnation.process
        if not process.alive:
            return
        process.alive = False
        self.note(process.name, "killed")
        self.loop.call_later(self.chance.random() * 2.0, self._end_workers, incarnation, context=context_of(None))
        for reply in list(incarnation.asked):
            self.loop.call_later(self.network.way(), _fail, reply, Died(process.name), context=context_of(None))
        if cluster.now is incarnation:
            cluster.now = None
            self.loop.call_later(restart_after, self._restart_if_gone, cluster, context=context_of(None))

    def _restart_if_gone(self, cluster: Cluster) -> None:
        if cluster.now is None:
            self.restart(cluster)

    def _end_workers(self, incarnation: Incarnation) -> None:
        incarnation.workers.alive = False

    def stop(self, incarnation: Incarnation) -> None:
        """SIGSTOP."""
        if incarnation.process.alive and not incarnation.process.stopped:
            incarnation.process.stopped = True
            self.note(incarnation.process.name, "stopped")

    def go_on(self, incarnation: Incarnation) -> None:
        """SIGCONT."""
        if incarnation.process.alive and incarnation.process.stopped:
            self.note(incarnation.process.name, "goes on")
            self.loop.go_on(incarnation.process)

    def cut_off(self, process: Process, seconds: float) -> None:
        """A process reaches no store for some time."""
        self.note(process.name, f"cut off for {seconds:.1f} s")
        self.network.cut_off.add(process)
        self.loop.call_later(seconds, self.network.cut_off.discard, process, context=context_of(None))

    async def replace(self, cluster: Cluster) -> None:
        """The manager leaves, as one that has been idle does, and another is made in its place."""
        incarnation = cluster.now
        if incarnation is None or not incarnation.ready or incarnation.process.stopped:
            return
        self.note(incarnation.process.name, "leaves")
        self.left.add(cluster.manager_id)
        leaving = self.loop.spawn(incarnation.process, incarnation.manager.leave())
        leaving.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait([leaving], timeout=20.0)
        if cluster.now is incarnation:
            cluster.manager_id = f"manager-{cluster.name}.{cluster.number}"
            self.kill(cluster, incarnation, 0.1)

    async def ask(self, cluster: Cluster, call: Callable[[Manager], Coroutine[Any, Any, T]], timeout: float) -> T:
        """Call a manager from another process.

        Raises:
            Died: it is dead, or dies before it answers. TimeoutError: it does not answer.
        """
        incarnation = cluster.now
        if incarnation is None or not incarnation.ready:
            await asyncio.sleep(0.5)
            raise Died(cluster.name)
        reply: asyncio.Future[T] = self.loop.create_future()
        incarnation.asked[reply] = None

        self.loop.call_later(
            self.network.way(), self._serve, incarnation, call, reply, context=context_of(incarnation.process)
        )
        try:
            return await asyncio.wait_for(reply, timeout)
        finally:
            incarnation.asked.pop(reply, None)

    def _serve(
        self, incarnation: Incarnation, call: Callable[[Manager], Coroutine[Any, Any, Any]], reply: asyncio.Future[Any]
    ) -> None:
        async def serve() -> None:
            try:
                result = await call(incarnation.manager)
            except Exception as error:  # noqa: BLE001 - Ray hands on whatever the actor raised
                self.loop.call_later(self.network.way(), _fail, reply, error, context=context_of(None))
            else:
                self.loop.call_later(self.network.way(), answer, reply, result, context=context_of(None))

        self.loop.spawn(incarnation.process, serve())

    def calm(self) -> None:
        """Nothing is done to anybody any more; what is dead comes back, and zombies end."""
        self.stormy = False
        self.network.calm()
        self.labour.deaths = 0.0
        self.note("world", "calm")
        for cluster in self.clusters:
            for zombie in cluster.zombies:
                self.kill(cluster, zombie, 0.0)
            if cluster.now is None:
                self.restart(cluster)
            else:
                self.go_on(cluster.now)


def _fail(reply: asyncio.Future[Any], error: BaseException) -> None:
    if not reply.done():
        reply.set_exception(error)
        reply.exception()


def _short(key: str) -> str:
    return key.removeprefix("workflows/") if not key.startswith(keys.MANAGERS) else key
