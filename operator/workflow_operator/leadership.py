"""Leader election. The leader renews its lease in a thread of its own, so that a busy event loop does not lose it.

Two replicas that both act as leader cause no damage. Every status write is conditional on a resourceVersion, and the
log of a run fences its owners. The lease only avoids duplicate work.

A leader that cannot renew its lease within the deadline stops before another replica may take over. It stays alive and
becomes a candidate again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import structlog

from workflow_operator.adapters.kube import Kube
from workflow_operator.adapters.lease import Lease, LeaseConfig
from workflow_operator.core.leases import Durations
from workflow_operator.errors import OperatorError, UnreachableError

Connect = Callable[[], AbstractAsyncContextManager[Kube]]
log = structlog.get_logger(__name__)


class LeaseLostError(UnreachableError):
    """A write was withheld, because this replica is not the leader any more."""


class Leadership:
    """Whether this replica is the leader. The lease's thread changes it, and any thread may read it.

    Args:
        monotonic: returns the monotonic time in seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic
        self._until = float("-inf")

    @property
    def is_current(self) -> bool:
        """Return whether the lease was renewed within the deadline. A process that was frozen reads the truth too."""
        return self.remaining() > 0

    def remaining(self) -> float:
        """Return the seconds until the leader must stop without another renewal; negative if it must not act."""
        return self._until - self.monotonic()

    def check(self) -> None:
        """Do nothing if this replica is the leader.

        Raises:
            LeaseLostError: this replica is not the leader.
        """
        if not self.is_current:
            raise LeaseLostError(
                "a write was withheld: this replica could not renew its lease in time; the leader repeats it"
            )

    def extend(self, until: float) -> None:
        """Record a renewal. `until` is the monotonic time at which the leader must stop without another one."""
        self._until = until

    def end(self) -> None:
        """Record that this replica is not the leader."""
        self._until = float("-inf")


@dataclass(frozen=True)
class _Term:
    """One term of leadership, as futures of the main event loop."""

    elected: asyncio.Future[None]
    lost: asyncio.Future[None]


async def run_as_leader(
    lease: LeaseConfig, connect: Connect, work: Callable[[], Awaitable[None]], leadership: Leadership
) -> None:
    """Run `work` whenever this replica is the leader, until it returns, fails or is canceled. Then release the lease.

    Args:
        lease: the lease and this replica.
        connect: connects a client to the API server. The lease's thread uses its own.
        work: called again for each term. If the lease is lost, it is canceled.
        leadership: kept up to date, so that `work` can check it before each write.
    """
    candidate = _Candidate(lease, connect, leadership)
    try:
        while not await _serve_term(candidate, lease, work):
            log.warning("lease lost: the API server did not renew it in time; waiting to lead again", lease=lease.name)
    finally:
        await candidate.stop()


async def _serve_term(candidate: _Candidate, lease: LeaseConfig, work: Callable[[], Awaitable[None]]) -> bool:
    """Wait for an election, then work. Return True if the work ended, and False if the lease was lost first."""
    loop = asyncio.get_running_loop()
    term = _Term(loop.create_future(), loop.create_future())
    candidate.campaign(term)
    await candidate.wait_for(term.elected)
    log.info("leading", identity=lease.identity)
    working = asyncio.ensure_future(work())
    try:
        await candidate.wait_for(working, term.lost)
        if working.done():
            working.result()
        return working.done()
    finally:
        if not working.done():
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


class _Candidate:
    """The thread that takes and renews the lease."""

    def __init__(self, lease: LeaseConfig, connect: Connect, leadership: Leadership) -> None:
        self._lease = lease
        self._connect = connect
        self._leadership = leadership
        self._durations = Durations.of(lease.seconds)
        self._main = asyncio.get_running_loop()
        self._own = asyncio.new_event_loop()
        self._wake = asyncio.Event()
        self._stopping = False
        self._term: _Term | None = None
        self._leads = False
        self._executor = ThreadPoolExecutor(1, "lease")
        self._thread = self._main.run_in_executor(self._executor, self._in_thread)

    async def wait_for(self, *futures: asyncio.Future[None]) -> None:
        """Wait for one of the futures. If the thread ends first, raise its error."""
        await asyncio.wait((*futures, self._thread), return_when=asyncio.FIRST_COMPLETED)
        if self._thread.done():
            self._thread.result()

    def campaign(self, term: _Term) -> None:
        """Compete for the next term. The thread completes its futures."""

        def begin() -> None:
            self._term = term
            self._wake.set()

        self._own.call_soon_threadsafe(begin)

    async def stop(self) -> None:
        """Release the lease, and end the thread."""

        def end() -> None:
            self._stopping = True
            self._wake.set()

        self._own.call_soon_threadsafe(end)
        await asyncio.wait((self._thread,))
        self._executor.shutdown(wait=False)
        self._own.close()

    def _in_thread(self) -> None:
        try:
            self._own.run_until_complete(self._run())
        finally:
            self._leadership.end()

    async def _run(self) -> None:
        async with self._connect() as kube:
            lease = Lease(self._lease, kube, self._leadership.monotonic)
            while not self._stopping:
                self._wake.clear()
                if self._term is not None:
                    await self._take(lease)
                await self._pause()
            if self._leads:
                self._leadership.end()
                await self._release(lease)

    async def _take(self, lease: Lease) -> None:
        started = self._leadership.monotonic()
        try:
            holder = await asyncio.wait_for(lease.take(), self._remaining())
        except (OperatorError, asyncio.TimeoutError) as error:
            log.info("cannot take or renew the lease", error=str(error) or type(error).__name__)
        else:
            if holder == self._lease.identity:
                self._leadership.extend(started + self._durations.deadline)
                if not self._leads:
                    self._leads = True
                    self._complete()
                return
            self._leadership.end()
        if self._leads and not self._leadership.is_current:
            self._leads = False
            self._complete()

    def _complete(self) -> None:
        """Complete the next future of the term in the main loop: first `elected`, then `lost`."""
        term = self._term
        if term is None:
            return
        future = term.elected if self._leads else term.lost
        if not self._leads:
            self._term = None

        def complete() -> None:
            if not future.done():  # the main loop did not cancel it
                future.set_result(None)

        self._main.call_soon_threadsafe(complete)

    def _remaining(self) -> float:
        """Return how long an attempt may last: a leader must notice the deadline in time."""
        return max(self._leadership.remaining(), 0.0) if self._leads else self._durations.deadline

    async def _pause(self) -> None:
        """Wait until the next attempt is due, or until the main loop wants something."""
        seconds = self._durations.retry
        if self._leads:
            seconds = min(seconds, max(self._leadership.remaining(), 0.0))
        timer = self._own.call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    async def _release(self, lease: Lease) -> None:
        try:
            await asyncio.wait_for(lease.release(), self._durations.deadline)
        except (OperatorError, asyncio.TimeoutError) as error:
            log.info("cannot release the lease", error=str(error) or type(error).__name__)
