"""Those who want something of a run: its driver, and whoever cancels, ends or deletes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.support.simulation.plans import Doomed, oracle
from tests.support.simulation.world import EPOCH, Died, World
from workflow import requests
from workflow.engine.messages import ClaimRequest, RunAddress, RunResult
from workflow.errors import (
    OwnershipError,
    StoreUnavailableError,
    SupersededError,
    UnavailableError,
    WorkflowConflictError,
)
from workflow.log.blobs import Blobs
from workflow.log.keys import RunPaths
from workflow.model.graph import Graph
from workflow.model.records import Created, Tombstone
from workflow.model.run_view import Owner
from workflow.model.status import WorkflowStatus
from workflow.reading import read_run

T = TypeVar("T")

FUNCTION = b"a function"
"""What the functions of all steps are; their runners know what they do."""


@dataclass
class Wanted:
    """One run that somebody wants.

    Attributes:
        uid: of the object it is made for, or empty.
        max_resumes: see Created.
        value: the oracle's; None where it can only fail.
        asked: what others did to it: cancel, end, delete, goodbye.
        unsure: a request whose sender does not know whether it was sent.
        heals: tries of one of its steps that raise, over all epochs.
        done: its driver is through.
        told: the end, as its driver was told.
    """

    workflow_id: str
    graph: Graph
    uid: str = ""
    max_resumes: int = -1
    heals: int = 0
    asked: set[str] = field(default_factory=set)
    unsure: bool = False
    done: bool = False
    told: RunResult | None = None

    def __post_init__(self) -> None:
        try:
            self.value: bytes | None = oracle(self.graph).value
        except Doomed:
            self.value = None

    @property
    def run_uuid(self) -> str:
        """Of its only run."""
        return f"{self.workflow_id}-1"


class Driver:
    """Makes a run, waits for it, goes on with it where its owner is lost, and resumes it where it FAILED.

    Args:
        world: where.
        wanted: the run.
    """

    def __init__(self, world: World, wanted: Wanted) -> None:
        self._world = world
        self._wanted = wanted
        self._address = RunAddress(world.disk.objects.url, wanted.workflow_id, 1, wanted.run_uuid)
        self._attempt = 1 if wanted.uid else 0
        self._cluster = world.chance.choice(world.clusters)

    def begin(self) -> None:
        """In a process of its own."""
        self._process = self._world.process(f"{self._wanted.workflow_id}.driver")
        self._store, self._threads = self._world.reached_by(self._process)
        self._world.loop.spawn(self._process, self._live())

    def die(self) -> None:
        """Whatever it was about; it is begun again."""
        if not self._wanted.done:
            self._world.count("drivers died")
            self._world.note(self._process.name, "killed")
            self._process.alive = False
            self.begin()

    async def _live(self) -> None:
        await self._insist(lambda: self._blobs().put(FUNCTION))
        if not await self._start():
            self._wanted.done = True
            return
        resumes = 3 if self._wanted.value is not None else 1
        while True:
            ended = await self._wait()
            if ended is not None and ended.status is WorkflowStatus.FAILED and resumes > 0:
                resumes -= 1
                self._world.count("resumes of a FAILED run")
                await self._claim(retry_failed=True)
                continue
            self._wanted.done, self._wanted.told = True, ended
            self._world.note(self._process.name, f"knows: {ended.status if ended is not None else 'deleted'}")
            return

    async def _start(self) -> bool:
        """Whether the run was made; False where a tombstone stands in its place."""
        created = self._created()
        while True:
            try:
                there = await self._world.ask(self._cluster, lambda manager: manager.start(created), 30.0)
                return not isinstance(there, Tombstone)
            except (Died, UnavailableError, asyncio.TimeoutError):
                await self._another()
            except (OwnershipError, WorkflowConflictError) as error:  # it is there, and somebody else's
                self._world.note(self._process.name, f"start: {type(error).__name__}")
                return True

    async def _wait(self) -> RunResult | None:
        """How it ended; None where it was deleted."""
        chance = self._world.chance
        while True:
            through = chance.random() < 0.5
            try:
                return await self._world.ask(
                    self._cluster,
                    lambda manager: (manager.wait_or_resume if through else manager.wait)(self._address),  # noqa: B023
                    10.0 + chance.random() * 60.0,
                )
            except SupersededError:
                if await self._deleted():
                    return None
            except (UnavailableError, Died, asyncio.TimeoutError, OwnershipError):
                await self._another()
                await self._claim()

    async def _claim(self, *, retry_failed: bool = False) -> None:
        chance, wanted = self._world.chance, self._wanted
        if wanted.uid and chance.random() < 0.5:
            self._attempt += 1
        request = ClaimRequest(
            wanted.workflow_id,
            1,
            wanted.uid,
            self._attempt,
            take_over=self._world.stormy and chance.random() < 0.3,
            retry_failed=retry_failed,
        )
        try:
            await self._world.ask(self._cluster, lambda manager: manager.claim(request), 30.0)
            self._world.count("claims asked for")
        except (Died, UnavailableError, asyncio.TimeoutError, OwnershipError, WorkflowConflictError) as error:
            self._world.note(self._process.name, f"claim: {type(error).__name__}")

    async def _another(self) -> None:
        """After a while, another cluster perhaps."""
        await asyncio.sleep(0.2 + self._world.chance.random() * 3.0)
        self._cluster = self._world.chance.choice(self._world.clusters)

    async def _deleted(self) -> bool:
        view = await self._insist(lambda: read_run(self._store, self._wanted.workflow_id))
        return view is None or view.tombstone

    async def _insist(self, call: Callable[[], T]) -> T:
        while True:
            try:
                return await self._threads.run(call)
            except StoreUnavailableError:
                await asyncio.sleep(0.5)

    def _blobs(self) -> Blobs:
        return Blobs(self._store, RunPaths(self._wanted.workflow_id, 1, self._wanted.run_uuid))

    def _created(self) -> Created:
        wanted = self._wanted
        owner = Owner(manager="", uid=wanted.uid, attempt=self._attempt)
        return Created(
            wanted.workflow_id, 1, wanted.run_uuid, owner, "0" * 64, EPOCH, wanted.graph, max_resumes=wanted.max_resumes
        )


class Outsider:
    """Whoever asks something of a run without Ray: the operator, the CLI.

    Args:
        world: where.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.tasks: dict[asyncio.Task[None], Wanted] = {}
        self._begin()

    def _begin(self) -> None:
        self._process = self._world.process("outside")
        self._store, self._threads = self._world.reached_by(self._process)

    def die(self) -> None:
        """Whatever it was about is left as it is."""
        self._process.alive = False
        for task, wanted in self.tasks.items():
            if not task.done():
                self._world.count("outside: died over it")
                wanted.unsure = True
        self.tasks.clear()
        self._begin()

    def act(self, wanted: Wanted, what: str) -> None:
        """Do something to a run: cancel, end, delete or goodbye."""
        self._world.note("outside", f"{what} {wanted.workflow_id}")
        self._world.count(f"outside: {what}")
        self.tasks[self._world.loop.spawn(self._process, getattr(self, f"_{what}")(wanted))] = wanted

    async def _cancel(self, wanted: Wanted) -> None:
        wanted.asked.add("cancel")
        view = None
        while view is None:
            view = await self._try(lambda: read_run(self._store, wanted.workflow_id, 1))
            if view is None:
                await asyncio.sleep(1.0)
            elif view.tombstone:
                return
        there = view
        for _ in range(3):
            if await self._try(lambda: requests.request_cancel(self._store, there, uid=wanted.uid, reason="Asked")):
                return
            wanted.unsure = True

    async def _end(self, wanted: Wanted) -> None:
        wanted.asked.add("end")
        status = self._world.chance.choice((WorkflowStatus.FAILED, WorkflowStatus.CANCELED))
        actor = requests.Requester(wanted.uid, 99, "outside")
        await self._try(
            lambda: requests.end_run(
                self._store,
                wanted.workflow_id,
                run_number=1,
                status=status,
                reason="Outside",
                message="ended",
                requester=actor,
            )
        )

    async def _goodbye(self, wanted: Wanted) -> None:
        actor = requests.Requester(wanted.uid, 0, "outside")
        await self._try(
            lambda: requests.release_run(
                self._store, wanted.workflow_id, run_number=1, requester=actor, reason="Suspended"
            )
        )

    async def _delete(self, wanted: Wanted) -> None:
        wanted.asked.add("delete")
        actor = requests.Requester(wanted.uid, 99, "outside")

        def delete() -> bool:
            requests.delete_run(self._store, wanted.workflow_id, run_number=1, requester=actor)
            return True

        while not await self._try(delete, refused=True):  # noqa: ASYNC110 - in virtual time
            await asyncio.sleep(1.0)

    async def _try(self, call: Callable[[], T], *, refused: Any = None) -> T | Any:
        """Its result; None where the store does not answer, `refused` where the run is not this actor's."""
        try:
            return await self._threads.run(call)
        except StoreUnavailableError:
            return None
        except (OwnershipError, WorkflowConflictError) as error:
            self._world.note("outside", type(error).__name__)
            return refused
