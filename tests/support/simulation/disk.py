"""The store as one process of the simulation reaches it: each call takes its time, and may be lost before or behind.

A call of the engine that blocks runs in a greenlet: at each call of the store it is put aside, and goes on when the
answer arrives, so that any two processes meet between any two calls. No threads, so that one seed is one order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

import greenlet  # type: ignore[import-untyped]  # ships no types

from tests.support.simulation.loop import Process, VirtualLoop, context_of
from workflow.errors import StoreUnavailableError, UnavailableError
from workflow.store.memory import MemoryStore
from workflow.store.port import Allocate, Data, ObjectInfo

T = TypeVar("T")


@dataclass
class Network:
    """How calls of the store travel.

    Attributes:
        slow: mean seconds of one way.
        lost: share of the calls that never arrive.
        unanswered: share of the calls that arrive and whose answer does not.
        stalls: share of the ways that take seconds.
        cut_off: processes that reach nothing now.
    """

    chance: Random
    slow: float = 0.01
    lost: float = 0.0
    unanswered: float = 0.0
    stalls: float = 0.0
    cut_off: set[Process] = field(default_factory=set)

    def way(self) -> float:
        """Seconds that one way takes."""
        chance = self.chance
        if self.stalls and chance.random() < self.stalls:
            return chance.random() * 8.0
        return (0.1 + chance.random()) * self.slow

    def calm(self) -> None:
        """Everything arrives from now on."""
        self.lost = self.unanswered = self.stalls = 0.0
        self.cut_off.clear()


class Disk:
    """What all processes share, and those who watch it.

    Args:
        loop: whose time it is.
        network: how one gets there.
        told: called with method, key and data of each write that took place, and whose it is.
    """

    def __init__(
        self, loop: VirtualLoop, network: Network, told: Callable[[str, str, bytes, Process], None], name: str
    ) -> None:
        self.loop = loop
        self.network = network
        self.objects = MemoryStore(name, loop.time)
        self.counts: dict[str, int] = {}
        self.told = told
        self._suspended: dict[greenlet.greenlet, None] = {}

    def count(self, what: str) -> None:
        """One more of it."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def run(
        self, process: Process, call: Callable[[], T], done: Callable[[T | None, BaseException | None], None]
    ) -> None:
        """Begin a call that blocks, and tell how it ended; on the loop, in no task."""

        def body() -> None:
            try:
                result = call()
            except greenlet.GreenletExit:
                return
            except BaseException as error:  # noqa: BLE001 - a thread hands on whatever its call raised
                done(None, error)
            else:
                done(result, None)

        greenlet.greenlet(body).switch()

    def travel(self, process: Process, act: Callable[[], T], what: str) -> T:
        """One call of the store: there, the effect, and back."""
        me, network, loop = greenlet.getcurrent(), self.network, self.loop
        assert me.parent is not None, "only a simulated thread may block"
        self._suspended[me] = None
        loop.call_later(network.way(), self._arrive, me, process, act, what, context=context_of(None))
        answer: tuple[T, BaseException | None] = me.parent.switch()
        value, error = answer
        if error is not None:
            raise error
        return value

    def _arrive(self, caller: greenlet.greenlet, process: Process, act: Callable[[], Any], what: str) -> None:
        network, chance = self.network, self.network.chance
        answer: tuple[Any, BaseException | None]
        wait = network.way()
        if process in network.cut_off or (network.lost and chance.random() < network.lost):
            self.count("calls lost")
            answer, wait = (None, StoreUnavailableError(f"{what}: lost on its way")), wait + chance.random() * 2.0
        else:
            try:
                answer = (act(), None)
            except StoreUnavailableError as error:
                answer = (None, error)
            if network.unanswered and chance.random() < network.unanswered:
                self.count("answers lost")
                answer, wait = (
                    (None, StoreUnavailableError(f"{what}: its answer was lost")),
                    wait + chance.random() * 2.0,
                )
        self.loop.call_later(wait, self._answer, caller, answer, context=context_of(process))

    def _answer(self, caller: greenlet.greenlet, answer: Any) -> None:
        self._suspended.pop(caller, None)
        caller.parent = greenlet.getcurrent()
        caller.switch(answer)

    def close(self) -> None:
        """Drop the calls of processes that were killed."""
        for each in list(self._suspended):
            each.parent = greenlet.getcurrent()
            each.throw()
        self._suspended.clear()


class Reached:
    """The store of one process: the port, by way of the network.

    Args:
        disk: the store.
        process: who asks.
    """

    def __init__(self, disk: Disk, process: Process) -> None:
        self._disk = disk
        self._process = process

    @property
    def url(self) -> str:
        """See the port."""
        return self._disk.objects.url

    def create(self, key: str, data: Data, put_id: str) -> bool:
        """See the port."""
        whole = data if isinstance(data, bytes) else b"".join(data)

        def act() -> bool:
            objects = self._disk.objects
            new = objects.head(key) is None
            mine = objects.create(key, whole, put_id)
            if new:
                self._disk.told("create", key, whole, self._process)
            elif not mine:
                self._disk.told("refused", key, whole, self._process)
            return mine

        return self._travel(act, "create", key)

    def get(self, key: str) -> bytes | None:
        """See the port."""
        return self._travel(lambda: self._disk.objects.get(key), "get", key)

    def fetch(self, key: str, allocate: Allocate) -> bool:
        """See the port."""
        data = self.get(key)
        if data is not None:
            allocate(len(data))[:] = data
        return data is not None

    def head(self, key: str) -> ObjectInfo | None:
        """See the port."""
        return self._travel(lambda: self._disk.objects.head(key), "head", key)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """See the port; a long one comes in pages, between which others write."""
        page = 1000 if self._disk.network.chance.random() < 0.8 else 2
        while True:
            found = self._travel(lambda after=start_after: self._page(prefix, after, page), "list", prefix)  # type: ignore[misc]
            yield from found
            if len(found) < page:
                return
            start_after = found[-1].key

    def _page(self, prefix: str, start_after: str, most: int) -> Sequence[ObjectInfo]:
        return [info for info, _ in zip(self._disk.objects.list(prefix, start_after), range(most), strict=False)]

    def delete(self, key: str) -> None:
        """See the port."""

        def act() -> None:
            if self._disk.objects.head(key) is not None:
                self._disk.objects.delete(key)
                self._disk.told("delete", key, b"", self._process)

        self._travel(act, "delete", key)

    def overwrite(self, key: str, data: bytes) -> None:
        """See the port."""
        self._travel(lambda: self._disk.objects.overwrite(key, data), "overwrite", key)

    def close(self) -> None:
        """See the port."""

    def _travel(self, act: Callable[[], T], method: str, key: str) -> T:
        self._disk.count("store calls")
        return self._disk.travel(self._process, act, f"{method} {key}")


class SimulatedThreads:
    """The threads of one process: see the port.

    Args:
        disk: what their calls reach.
        process: whose they are.
    """

    def __init__(self, disk: Disk, process: Process) -> None:
        self._disk = disk
        self._process = process
        self._busy = 0
        self._idle: asyncio.Event = asyncio.Event()
        self._closed = False

    async def run(self, call: Callable[[], T]) -> T:
        """See the port."""
        if self._closed:
            raise UnavailableError("these threads have ended")
        future: asyncio.Future[T] = self._disk.loop.create_future()
        self._busy += 1

        def done(result: Any, error: BaseException | None) -> None:
            self._busy -= 1
            if not self._busy:
                self._idle.set()
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self._disk.loop.call_soon(self._disk.run, self._process, call, done, context=context_of(self._process))
        return await future

    async def close(self, last: Callable[[], object]) -> None:
        """See the port."""
        while self._busy:
            self._idle.clear()
            await self._idle.wait()
        await self.run(last)
        self._closed = True
