"""The environment of one simulation: the store, the network, the clusters with their managers, and their faults."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from tests.support.simulation.leased import LeasedRunner
from tests.support.simulation.loop import Process, VirtualLoop, context_of, resolve
from tests.support.simulation.observer import Observer, name_of
from tests.support.simulation.store import Network, SharedStore, SimulatedStore, SimulatedThreads
from tests.support.simulation.workers import SimulatedRunner, WorkerModel
from workflow.engine.owner.manager import Intervals, Manager
from workflow.engine.owner.runtime import Runtime
from workflow.log import keys
from workflow.model.run_view import Owner

T = TypeVar("T")

EPOCH = 1_700_000_000.0


class ProcessDiedError(Exception):
    """The called manager is dead. This corresponds to RayActorError of Ray."""


class VirtualClock:
    """The clocks of the engine, which show the time of the loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        return EPOCH + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()


@dataclass(eq=False)
class Incarnation:
    """One process of a manager, with its workers.

    Attributes:
        ready: the manager can be called.
        calls: replies for which other processes wait. A dict, so that their order is fixed.
    """

    process: Process
    workers: Process
    manager: Manager
    ready: bool = False
    calls: dict[asyncio.Future[Any], None] = field(default_factory=dict)


@dataclass(eq=False)
class Cluster:
    """A cluster. Its manager is restarted when it dies.

    Attributes:
        manager_id: stays the same over restarts, and changes after a manager left.
        current: the incarnation that Ray knows.
        zombies: earlier incarnations that may still run.
        number: number of incarnations so far.
    """

    name: str
    manager_id: str
    current: Incarnation | None = None
    zombies: list[Incarnation] = field(default_factory=list)
    number: int = 0


class Environment:
    """The environment of one simulation.

    Args:
        seed: decides the whole course of the simulation.
        extended: the managers lease their workers.

    Attributes:
        chance: source of all random choices except the order of callbacks and the delays of the network.
        slots: number of leased workers that fit into a cluster. 0 means that workers are not leased.
        faults_enabled: faults are still injected.
        departed: ids of managers that left for good.
        creators: key -> the process that created it last.
        trace: time, process and text of each event.
    """

    def __init__(self, seed: int, *, extended: bool) -> None:
        self.chance = Random(seed)
        self.loop = VirtualLoop(Random(seed + 1), shuffled=self.chance.random() < 0.7)  # type: ignore[abstract]  # what the engine needs of a loop
        self.network = Network(Random(seed + 2))
        self.observer = Observer()
        self.shared = SharedStore(self.loop, self.network, self._on_write, f"seed-{seed}")
        self.worker_model = WorkerModel(self.chance, self.shared, self.observer, 1.0, 0.0, {})
        self.slots = self.chance.choice((1, 1, 2, 4)) if extended else 0
        self.clusters: list[Cluster] = []
        self.processes: list[Process] = []
        self.pace = Intervals(heartbeat=5.0, notifications=2.0, fence=20.0, follow=0.5, retry=1.0)
        self.faults_enabled = True
        self.departed: set[str] = set()
        self.creators: dict[str, Process] = {}
        self.trace: list[tuple[float, str, str]] = []

    # --- trace ---

    def note(self, name: str, text: str) -> None:
        """Add a line to the trace."""
        self.trace.append((self.loop.time(), name, text))

    def count(self, event: str) -> None:
        """Count one event."""
        self.shared.count(event)

    def _on_write(self, method: str, key: str, data: bytes, process: Process) -> None:
        who = name_of(process)
        if method == "create" and "/log/" in key:
            self.note(who, self.observer.segment_stored(self.shared.objects, key, data))
        elif method == "refused":
            if "/log/" in key:
                self.count("fenced writes")
                self.note(who, f"refused {key.rpartition('/runs/')[2]}")
        elif method == "create":
            self.creators[key] = process
            self.observer.key_created(key)
            if "/registry/" in key:
                self.observer.tombstone_stored(key, data)
            self.note(who, f"+ {_short(key)}")
        else:
            self.observer.key_deleted(key)
            self.note(who, f"- {_short(key)}")

    def trace_text(self) -> str:
        """Return the trace as text."""
        return "\n".join(f"{time:9.3f} {name:10} {text}" for time, name, text in self.trace)

    def fingerprint(self) -> str:
        """Return a digest of the trace."""
        return hashlib.sha256(self.trace_text().encode()).hexdigest()

    def now(self) -> float:
        """Return the virtual time in seconds since 1970."""
        return EPOCH + self.loop.time()

    # --- processes ---

    def process(self, name: str) -> Process:
        """Create a process."""
        process = Process(name)
        self.processes.append(process)
        return process

    def store_of(self, process: Process) -> tuple[SimulatedStore, SimulatedThreads]:
        """Return the store as a process reaches it, and the threads of this process."""
        return SimulatedStore(self.shared, process), SimulatedThreads(self.shared, process)

    def add_cluster(self, name: str) -> Cluster:
        """Create a cluster and start its first manager."""
        cluster = Cluster(name, f"manager-{name}")
        self.clusters.append(cluster)
        self.restart(cluster)
        return cluster

    def restart(self, cluster: Cluster) -> None:
        """Start the manager of a cluster. Its previous incarnation is dead, or Ray no longer knows it."""
        cluster.number += 1
        name = f"{cluster.name}.{cluster.number}"
        process, workers = self.process(name), self.process(f"{name}.work")
        me = Owner(cluster.manager_id, f"i{cluster.number}", f"address-{cluster.name}")
        runner = (
            LeasedRunner(process, workers, self.worker_model, self.slots)
            if self.slots
            else SimulatedRunner(process, workers, self.worker_model)
        )
        runtime = Runtime(VirtualClock(self.loop), lambda: SimulatedThreads(self.shared, process))
        manager = Manager(SimulatedStore(self.shared, process), me, runner, self.pace, runtime=runtime)
        incarnation = Incarnation(process, workers, manager)
        cluster.current = incarnation
        self.note(name, f"starts as {me.manager}")
        self.loop.spawn(process, self._begin(incarnation))
        self.loop.spawn(process, self._kill_when_replaced(cluster, incarnation))

    async def _kill_when_replaced(self, cluster: Cluster, incarnation: Incarnation) -> None:
        await incarnation.manager.replaced.wait()
        self.note(incarnation.process.name, "observes that it was replaced")
        self.loop.call_soon(self.kill, cluster, incarnation, 0.1, context=context_of(None))

    async def _begin(self, incarnation: Incarnation) -> None:
        incarnation.ready = True
        await incarnation.manager.begin()

    def kill(self, cluster: Cluster, incarnation: Incarnation, restart_after: float) -> None:
        """Send SIGKILL. The workers die within two seconds."""
        process = incarnation.process
        if not process.alive:
            return
        process.alive = False
        self.note(process.name, "killed")
        self.loop.call_later(self.chance.random() * 2.0, self._kill_workers, incarnation, context=context_of(None))
        for reply in list(incarnation.calls):
            self.loop.call_later(
                self.network.delay(), _fail, reply, ProcessDiedError(process.name), context=context_of(None)
            )
        if cluster.current is incarnation:
            cluster.current = None
            self.loop.call_later(restart_after, self._restart_if_dead, cluster, context=context_of(None))

    def _restart_if_dead(self, cluster: Cluster) -> None:
        if cluster.current is None:
            self.restart(cluster)

    def _kill_workers(self, incarnation: Incarnation) -> None:
        incarnation.workers.alive = False

    def stop(self, incarnation: Incarnation) -> None:
        """Send SIGSTOP."""
        if incarnation.process.alive and not incarnation.process.stopped:
            incarnation.process.stopped = True
            self.note(incarnation.process.name, "stopped")

    def resume(self, incarnation: Incarnation) -> None:
        """Send SIGCONT."""
        if incarnation.process.alive and incarnation.process.stopped:
            self.note(incarnation.process.name, "continues")
            self.loop.resume(incarnation.process)

    def disconnect(self, process: Process, seconds: float) -> None:
        """Cut a process off from the store for a number of seconds."""
        self.note(process.name, f"disconnected for {seconds:.1f} s")
        self.network.disconnected.add(process)
        self.loop.call_later(seconds, self.network.disconnected.discard, process, context=context_of(None))

    async def replace_manager(self, cluster: Cluster) -> None:
        """Let the manager leave, like an idle manager, and start another one in its place."""
        incarnation = cluster.current
        if incarnation is None or not incarnation.ready or incarnation.process.stopped:
            return
        self.note(incarnation.process.name, "leaves")
        self.departed.add(cluster.manager_id)
        leaving = self.loop.spawn(incarnation.process, incarnation.manager.leave())
        leaving.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait([leaving], timeout=20.0)
        if cluster.current is incarnation:
            cluster.manager_id = f"manager-{cluster.name}.{cluster.number}"
            self.kill(cluster, incarnation, 0.1)

    async def call_manager(
        self, cluster: Cluster, call: Callable[[Manager], Coroutine[Any, Any, T]], timeout: float
    ) -> T:
        """Call a manager from another process.

        Args:
            cluster: the cluster of the manager.
            call: makes the call on the manager.
            timeout: seconds to wait for the reply.

        Raises:
            ProcessDiedError: the manager is dead, or dies before it replies.
            TimeoutError: the manager does not reply in time.
        """
        incarnation = cluster.current
        if incarnation is None or not incarnation.ready:
            await asyncio.sleep(0.5)
            raise ProcessDiedError(cluster.name)
        reply: asyncio.Future[T] = self.loop.create_future()
        incarnation.calls[reply] = None

        self.loop.call_later(
            self.network.delay(), self._handle_call, incarnation, call, reply, context=context_of(incarnation.process)
        )
        try:
            return await asyncio.wait_for(reply, timeout)
        finally:
            incarnation.calls.pop(reply, None)

    def _handle_call(
        self, incarnation: Incarnation, call: Callable[[Manager], Coroutine[Any, Any, Any]], reply: asyncio.Future[Any]
    ) -> None:
        async def handle() -> None:
            try:
                result = await call(incarnation.manager)
            except Exception as error:  # noqa: BLE001 - Ray passes on every error of the actor
                self.loop.call_later(self.network.delay(), _fail, reply, error, context=context_of(None))
            else:
                self.loop.call_later(self.network.delay(), resolve, reply, result, context=context_of(None))

        self.loop.spawn(incarnation.process, handle())

    def stop_faults(self) -> None:
        """Inject no more faults, restart what is dead, and kill the zombies."""
        self.faults_enabled = False
        self.network.stop_faults()
        self.worker_model.death_rate = 0.0
        self.note("environment", "no more faults")
        for cluster in self.clusters:
            for zombie in cluster.zombies:
                self.kill(cluster, zombie, 0.0)
            if cluster.current is None:
                self.restart(cluster)
            else:
                self.resume(cluster.current)


def _fail(reply: asyncio.Future[Any], error: BaseException) -> None:
    if not reply.done():
        reply.set_exception(error)
        reply.exception()


def _short(key: str) -> str:
    return key.removeprefix("workflows/") if not key.startswith(keys.MANAGERS) else key
