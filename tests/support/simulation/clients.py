"""The clients of a run: its driver, and clients without Ray that cancel, end, delete or release it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from tests.support.claims import state_of
from tests.support.simulation.environment import EPOCH, Environment, ProcessDiedError
from tests.support.simulation.random_dags import RunFailsError, oracle
from workflow import requests
from workflow.engine.messages import ClaimRequest, RunAddress, RunResult
from workflow.errors import (
    CorruptLogError,
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
from workflow.model.state import RunState
from workflow.model.status import WorkflowStatus
from workflow.reading import read_run

T = TypeVar("T")

_CLAIM_FAILED: Final = (
    ProcessDiedError,
    UnavailableError,
    asyncio.TimeoutError,
    OwnershipError,
    WorkflowConflictError,
)
"""Errors after which a claim may have been stored or refused."""

RIVAL_OBJECT = "object-2"
"""uid of a Workflow object with the same workflow id, which claims a run that its owner released or lost."""

FUNCTION = b"a function"
"""The stored function of every step. The arguments of a step describe what it does."""


@dataclass
class RunPlan:
    """One run, and what its clients know of it.

    Attributes:
        workflow_id: id under which the driver starts the run.
        graph: the DAG.
        uid: uid of the Workflow object that owns the run, or empty.
        max_resumes: maximum number of consecutive epochs without progress. -1 means no limit.
        failures_in_total: number of attempts of one step that raise, over all epochs.
        outside_requests: what clients without Ray did to the run: cancel, end or delete.
        request_uncertain: some client does not know whether its request was sent.
        done: the driver has finished.
        result: the result that the driver received.
        value: the value according to the oracle if each wait chooses its first parents; None if the run always fails.
    """

    workflow_id: str
    graph: Graph
    uid: str = ""
    max_resumes: int = -1
    failures_in_total: int = 0
    outside_requests: set[str] = field(default_factory=set)
    request_uncertain: bool = False
    done: bool = False
    result: RunResult | None = None

    def __post_init__(self) -> None:
        self.value = self.value_for({})

    def value_for(self, decisions: Mapping[str, Sequence[str]]) -> bytes | None:
        """Return the value of the run if its waits decided so; None if it always fails."""
        try:
            return oracle(self.graph, decisions).value
        except RunFailsError:
            return None

    @property
    def run_uuid(self) -> str:
        """The uuid of the only run."""
        return f"{self.workflow_id}-1"


class Driver:
    """Starts a run and waits for it. Continues the run if its owner is lost, and resumes it if it FAILED.

    Args:
        environment: the environment of the simulation.
        plan: the run.
    """

    def __init__(self, environment: Environment, plan: RunPlan) -> None:
        self._environment = environment
        self._plan = plan
        self._address = RunAddress(environment.shared.objects.url, plan.workflow_id, 1, plan.run_uuid)
        self._attempt = 1 if plan.uid else 0
        self._cluster = environment.chance.choice(environment.clusters)

    def start(self) -> None:
        """Start the driver in a new process."""
        self._process = self._environment.process(f"{self._plan.workflow_id}.driver")
        self._store, self._threads = self._environment.store_of(self._process)
        self._environment.loop.spawn(self._process, self._run())

    def die(self) -> None:
        """Kill the driver during any operation, and start it again."""
        if not self._plan.done:
            self._environment.count("drivers died")
            self._environment.note(self._process.name, "killed")
            self._process.alive = False
            self.start()

    async def _run(self) -> None:
        await self._call_store(lambda: self._blobs().put(FUNCTION))
        if not await self._start():
            self._plan.done = True
            return
        resumes = 3 if self._plan.value is not None else 1
        while True:
            result = await self._wait()
            if result is not None and result.status is WorkflowStatus.FAILED and resumes > 0:
                resumes -= 1
                self._environment.count("resumes of a FAILED run")
                await self._claim(retry_failed=True)
                continue
            self._plan.done, self._plan.result = True, result
            status = result.status if result is not None else "deleted"
            self._environment.note(self._process.name, f"received: {status}")
            return

    async def _start(self) -> bool:
        """Start the run. Return False if a tombstone occupies its registry entry."""
        created = self._created()
        while True:
            try:
                stored = await self._environment.call_manager(
                    self._cluster, lambda manager: manager.start(created), 30.0
                )
                return not isinstance(stored, Tombstone)
            except (ProcessDiedError, UnavailableError, asyncio.TimeoutError):
                await self._switch_cluster()
            except (OwnershipError, WorkflowConflictError) as error:  # another requester owns the run
                self._environment.note(self._process.name, f"start: {type(error).__name__}")
                return True

    async def _wait(self) -> RunResult | None:
        """Return the result of the run, or None if the run was deleted."""
        chance = self._environment.chance
        while True:
            may_resume = chance.random() < 0.5
            try:
                return await self._environment.call_manager(
                    self._cluster,
                    lambda manager: (manager.wait_or_resume if may_resume else manager.wait)(self._address),  # noqa: B023
                    10.0 + chance.random() * 60.0,
                )
            except SupersededError:
                if await self._is_deleted():
                    return None
            except (UnavailableError, ProcessDiedError, asyncio.TimeoutError, OwnershipError):
                await self._switch_cluster()
                await self._claim()

    async def _claim(self, *, retry_failed: bool = False) -> None:
        chance, plan = self._environment.chance, self._plan
        if plan.uid and chance.random() < 0.5:
            self._attempt += 1
        takes_over = self._environment.faults_enabled and chance.random() < 0.3
        state = self._state()
        terminal = state.terminal if state is not None else None
        request = ClaimRequest(
            plan.workflow_id,
            1,
            plan.uid,
            self._attempt,
            take_over=state.owner if takes_over and state is not None else None,
            retry_failed=terminal[0] if retry_failed and terminal is not None else -1,
        )
        try:
            await self._environment.call_manager(self._cluster, lambda manager: manager.claim(request), 30.0)
            self._environment.count("claims")
        except _CLAIM_FAILED as error:
            self._environment.note(self._process.name, f"claim: {type(error).__name__}")

    def _state(self) -> RunState | None:
        """Return the run at the time of a decision, or None if it cannot be read. The store is read without faults."""
        try:
            return state_of(self._environment.shared.objects, self._plan.workflow_id)
        except (AssertionError, OwnershipError, CorruptLogError):  # not created yet, deleted, or being deleted
            return None

    async def _switch_cluster(self) -> None:
        """Wait a little, then choose a random cluster."""
        await asyncio.sleep(0.2 + self._environment.chance.random() * 3.0)
        self._cluster = self._environment.chance.choice(self._environment.clusters)

    async def _is_deleted(self) -> bool:
        view = await self._call_store(lambda: read_run(self._store, self._plan.workflow_id))
        return view is None or view.tombstone

    async def _call_store(self, call: Callable[[], T]) -> T:
        while True:
            try:
                return await self._threads.run(call)
            except StoreUnavailableError:
                await asyncio.sleep(0.5)

    def _blobs(self) -> Blobs:
        return Blobs(self._store, RunPaths(self._plan.workflow_id, 1, self._plan.run_uuid))

    def _created(self) -> Created:
        plan = self._plan
        owner = Owner(manager="", uid=plan.uid, attempt=self._attempt)
        return Created(
            plan.workflow_id, 1, plan.run_uuid, owner, "0" * 64, EPOCH, plan.graph, max_resumes=plan.max_resumes
        )


class OutsideClient:
    """A client without Ray, such as the operator or the command line.

    Args:
        environment: the environment of the simulation.

    Attributes:
        tasks: task of each request -> the run. A dict, so that the order is fixed.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self.tasks: dict[asyncio.Task[None], RunPlan] = {}
        self._start()

    def _start(self) -> None:
        self._process = self._environment.process("outside")
        self._store, self._threads = self._environment.store_of(self._process)

    def die(self) -> None:
        """Kill the client during any operation. Its requests stay as they are."""
        self._process.alive = False
        for task, plan in self.tasks.items():
            if not task.done():
                self._environment.count("outside: died during a request")
                plan.request_uncertain = True
        self.tasks.clear()
        self._start()

    def send(self, plan: RunPlan, request: str) -> None:
        """Send a request to a run: cancel, end, delete or release."""
        self._environment.note("outside", f"{request} {plan.workflow_id}")
        self._environment.count(f"outside: {request}")
        task = self._environment.loop.spawn(self._process, getattr(self, f"_{request}")(plan))
        self.tasks[task] = plan

    async def _cancel(self, plan: RunPlan) -> None:
        plan.outside_requests.add("cancel")
        view = None
        while view is None:
            view = await self._call(lambda: read_run(self._store, plan.workflow_id, 1))
            if view is None:
                await asyncio.sleep(1.0)
            elif view.tombstone:
                return
        stored = view
        for _ in range(3):
            if await self._call(lambda: requests.request_cancel(self._store, stored, uid=plan.uid, reason="Asked")):
                return
            plan.request_uncertain = True

    async def _end(self, plan: RunPlan) -> None:
        plan.outside_requests.add("end")
        status = self._environment.chance.choice((WorkflowStatus.FAILED, WorkflowStatus.CANCELED))
        requester = requests.Requester(plan.uid, 99, "outside")
        await self._call(
            lambda: requests.end_run(
                self._store,
                plan.workflow_id,
                run_number=1,
                status=status,
                reason="Outside",
                message="ended",
                requester=requester,
            )
        )

    async def _release(self, plan: RunPlan, attempt: int = 0) -> None:
        requester = requests.Requester(plan.uid, attempt, "outside")
        await self._call(
            lambda: requests.release_run(
                self._store, plan.workflow_id, run_number=1, requester=requester, reason="Suspended"
            )
        )

    async def _delete(self, plan: RunPlan) -> None:
        plan.outside_requests.add("delete")
        requester = requests.Requester(plan.uid, 99, "outside")

        def delete() -> bool:
            requests.delete_run(self._store, plan.workflow_id, run_number=1, requester=requester)
            return True

        while not await self._call(delete, refused=True):  # noqa: ASYNC110 - in virtual time
            await asyncio.sleep(1.0)

    async def _contend(self, plan: RunPlan) -> None:
        """Release the run, then send a request of its object while another object claims the run."""
        await self._release(plan, attempt=99)
        environment = self._environment
        request = environment.chance.choice((self._end, self._delete, self._release))
        rival = ClaimRequest(plan.workflow_id, 1, RIVAL_OBJECT, 1)
        cluster = environment.chance.choice(environment.clusters)
        claiming = environment.call_manager(cluster, lambda manager: manager.claim(rival), 30.0)
        environment.loop.spawn(self._process, self._ignoring_refusals(claiming))
        await asyncio.sleep(environment.chance.random() * 0.1)
        await request(plan)

    async def _ignoring_refusals(self, claiming: Awaitable[None]) -> None:
        try:
            await claiming
            self._environment.count("claims of a rival object")
        except _CLAIM_FAILED as error:
            self._environment.note("outside", f"rival: {type(error).__name__}")

    async def _call(self, call: Callable[[], T], *, refused: Any = None) -> T | Any:
        """Call the store. Return None if it is unavailable, and `refused` if the run belongs to another requester."""
        try:
            return await self._threads.run(call)
        except StoreUnavailableError:
            return None
        except (OwnershipError, WorkflowConflictError) as error:
            self._environment.note("outside", type(error).__name__)
            return refused
