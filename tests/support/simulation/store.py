"""The store as a simulated process reaches it: each call takes time, and the call or its reply may be lost.

A blocking call of the engine runs in a greenlet. The greenlet is suspended at each call of the store and continues when
the reply arrives, so that processes interleave between any two calls. There are no threads, so a seed fixes the order.
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
    """The network between processes and the store.

    Attributes:
        mean_delay: mean delay of a message in seconds.
        loss_rate: share of the calls that never reach the store.
        reply_loss_rate: share of the calls that reach the store and whose reply is lost.
        stall_rate: share of the messages that take several seconds.
        disconnected: processes that cannot reach the store now.
    """

    chance: Random
    mean_delay: float = 0.01
    loss_rate: float = 0.0
    reply_loss_rate: float = 0.0
    stall_rate: float = 0.0
    disconnected: set[Process] = field(default_factory=set)

    def delay(self) -> float:
        """Return the delay of one message in seconds."""
        chance = self.chance
        if self.stall_rate and chance.random() < self.stall_rate:
            return chance.random() * 8.0
        return (0.1 + chance.random()) * self.mean_delay

    def stop_faults(self) -> None:
        """Deliver every message from now on."""
        self.loss_rate = self.reply_loss_rate = self.stall_rate = 0.0
        self.disconnected.clear()


class SharedStore:
    """The store that all processes share.

    Args:
        loop: the loop that keeps the virtual time.
        network: the network between the processes and the store.
        on_write: called after each write with the method, the key, the data and the process. The method is `create`,
            `delete`, or `refused` for a create that lost to another object.
        name: name of the store in memory.

    Attributes:
        objects: the store itself, without a network.
        counts: number of events by name.
    """

    def __init__(
        self, loop: VirtualLoop, network: Network, on_write: Callable[[str, str, bytes, Process], None], name: str
    ) -> None:
        self.loop = loop
        self.network = network
        self.objects = MemoryStore(name, loop.time)
        self.counts: dict[str, int] = {}
        self.on_write = on_write
        self._suspended: dict[greenlet.greenlet, None] = {}

    def count(self, event: str) -> None:
        """Count one event."""
        self.counts[event] = self.counts.get(event, 0) + 1

    def run(
        self, process: Process, call: Callable[[], T], done: Callable[[T | None, BaseException | None], None]
    ) -> None:
        """Start a blocking call in a greenlet, outside any task. Call `done` with its result or its error."""

        def body() -> None:
            try:
                result = call()
            except greenlet.GreenletExit:
                return
            except BaseException as error:  # noqa: BLE001 - a thread passes on every error of its call
                done(None, error)
            else:
                done(result, None)

        greenlet.greenlet(body).switch()

    def call(self, process: Process, operation: Callable[[], T], description: str) -> T:
        """Call the store: deliver the call, run the operation, and deliver the reply."""
        me, loop, delay = greenlet.getcurrent(), self.loop, self.network.delay()
        assert me.parent is not None, "only a simulated thread may block"
        self._suspended[me] = None
        loop.call_later(delay, self._deliver_call, me, process, operation, description, context=context_of(None))
        reply: tuple[T, BaseException | None] = me.parent.switch()
        value, error = reply
        if error is not None:
            raise error
        return value

    def _deliver_call(
        self, caller: greenlet.greenlet, process: Process, operation: Callable[[], Any], description: str
    ) -> None:
        network, chance = self.network, self.network.chance
        reply: tuple[Any, BaseException | None]
        delay = network.delay()
        if process in network.disconnected or (network.loss_rate and chance.random() < network.loss_rate):
            self.count("calls lost")
            reply = (None, StoreUnavailableError(f"{description}: the call was lost"))
            delay += chance.random() * 2.0
        else:
            try:
                reply = (operation(), None)
            except StoreUnavailableError as error:
                reply = (None, error)
            if network.reply_loss_rate and chance.random() < network.reply_loss_rate:
                self.count("replies lost")
                reply = (None, StoreUnavailableError(f"{description}: the reply was lost"))
                delay += chance.random() * 2.0
        self.loop.call_later(delay, self._deliver_reply, caller, reply, context=context_of(process))

    def _deliver_reply(self, caller: greenlet.greenlet, reply: Any) -> None:
        self._suspended.pop(caller, None)
        caller.parent = greenlet.getcurrent()
        caller.switch(reply)

    def close(self) -> None:
        """Drop the suspended calls of killed processes."""
        for each in list(self._suspended):
            each.parent = greenlet.getcurrent()
            each.throw()
        self._suspended.clear()


class SimulatedStore:
    """The store as one process reaches it over the network. `workflow.store.Store` documents its methods.

    Args:
        shared: the store that all processes share.
        process: the process that calls.
    """

    def __init__(self, shared: SharedStore, process: Process) -> None:
        self._shared = shared
        self._process = process

    @property
    def url(self) -> str:
        return self._shared.objects.url

    def create(self, key: str, data: Data, put_id: str) -> bool:
        content = data if isinstance(data, bytes) else b"".join(data)

        def operation() -> bool:
            objects = self._shared.objects
            is_new = objects.head(key) is None
            won = objects.create(key, content, put_id)
            if is_new:
                self._shared.on_write("create", key, content, self._process)
            elif not won:
                self._shared.on_write("refused", key, content, self._process)
            return won

        return self._call(operation, "create", key)

    def get(self, key: str) -> bytes | None:
        return self._call(lambda: self._shared.objects.get(key), "get", key)

    def fetch(self, key: str, allocate: Allocate) -> bool:
        data = self.get(key)
        if data is not None:
            allocate(len(data))[:] = data
        return data is not None

    def head(self, key: str) -> ObjectInfo | None:
        return self._call(lambda: self._shared.objects.head(key), "head", key)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """List objects in pages, so that other processes may write between two pages."""
        page_size = 1000 if self._shared.network.chance.random() < 0.8 else 2
        while True:
            found = self._call(lambda after=start_after: self._page(prefix, after, page_size), "list", prefix)  # type: ignore[misc]
            yield from found
            if len(found) < page_size:
                return
            start_after = found[-1].key

    def _page(self, prefix: str, start_after: str, size: int) -> Sequence[ObjectInfo]:
        return [info for info, _ in zip(self._shared.objects.list(prefix, start_after), range(size), strict=False)]

    def delete(self, key: str) -> None:
        def operation() -> None:
            if self._shared.objects.head(key) is not None:
                self._shared.objects.delete(key)
                self._shared.on_write("delete", key, b"", self._process)

        self._call(operation, "delete", key)

    def overwrite(self, key: str, data: bytes) -> None:
        self._call(lambda: self._shared.objects.overwrite(key, data), "overwrite", key)

    def close(self) -> None:
        """Do nothing: the simulation closes the store."""

    def _call(self, operation: Callable[[], T], method: str, key: str) -> T:
        self._shared.count("store calls")
        return self._shared.call(self._process, operation, f"{method} {key}")


class SimulatedThreads:
    """The threads of one process, in which the engine makes blocking calls.

    Args:
        shared: the store that their calls reach.
        process: the process that owns the threads.
    """

    def __init__(self, shared: SharedStore, process: Process) -> None:
        self._shared = shared
        self._process = process
        self._busy = 0
        self._idle: asyncio.Event = asyncio.Event()
        self._closed = False

    async def run(self, call: Callable[[], T]) -> T:
        if self._closed:
            raise UnavailableError("cannot run a blocking call: the threads of this process are closed")
        future: asyncio.Future[T] = self._shared.loop.create_future()
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

        self._shared.loop.call_soon(self._shared.run, self._process, call, done, context=context_of(self._process))
        return await future

    async def close(self, last: Callable[[], object]) -> None:
        while self._busy:
            self._idle.clear()
            await self._idle.wait()
        await self.run(last)
        self._closed = True
