"""The engine on a real S3 store over a bad network: a proxy loses replies, refuses, is slow and has outages."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Iterator

import pytest

from dev.minio_server import MinioServer
from tests.faults.shapes import SHAPES
from tests.support import runs
from tests.support.checker import check
from tests.support.fake_runner import FakeRunner, StepAttempt
from tests.support.history import Expected
from tests.support.lossy import LossyProxy, NetworkFaults
from tests.support.managers import never_returns, with_timeout
from tests.support.minio import client_of
from tests.support.stored import in_bucket
from workflow.engine.messages import RunAddress, StepTask
from workflow.engine.owner.manager import ClaimRequest, Intervals, Manager
from workflow.engine.owner.run_loop import RunLoop
from workflow.engine.retry import async_retry_while_unavailable
from workflow.errors import StoreUnavailableError, WorkflowConflictError
from workflow.log.blobs import Blobs
from workflow.log.keys import RunPaths
from workflow.log.run_log import RunLog
from workflow.model.records import Created
from workflow.model.run_view import Owner
from workflow.model.state import StepState
from workflow.store import Store, open_store

SHAPE = SHAPES["mixed"]
RUNS = 12
PACE = Intervals(heartbeat=1.0, notifications=0.5, fence=1.0, follow=0.2, retry=0.1)


@pytest.fixture
def proxy(minio_server: MinioServer) -> Iterator[LossyProxy]:
    """A proxy that injects no fault at first."""
    with LossyProxy(minio_server.port) as running:
        yield running


class Workers(FakeRunner):
    """Executes steps in threads, like workers, and stores their values over the same bad network."""

    def __init__(self, store: Store) -> None:
        super().__init__(never_returns)
        self._act = SHAPE.script(lambda task: Blobs(store, RunPaths(task.run.workflow_id, 1, task.run.run_uuid)))
        self._busy: set[asyncio.Task[None]] = set()
        self.executions: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)

    def start(self, run: RunLoop, step: StepState, task: StepTask) -> None:
        super().start(run, step, task)
        self.executions[task.run.workflow_id].append((run.state.epoch, task.step_id))
        work = asyncio.ensure_future(self._work(self.attempts[-1]))
        self._busy.add(work)
        work.add_done_callback(self._busy.discard)

    async def _work(self, attempt: StepAttempt) -> None:
        attempt.answer(await asyncio.to_thread(self._act, attempt.task))


@pytest.mark.parametrize(
    ("seed", "every"), [(1, (5.0, 40.0)), (2, (0.5, 1.5))], ids=["rare outages", "frequent outages"]
)
async def test_runs_and_takeovers_survive_a_bad_network(
    proxy: LossyProxy,
    minio_server: MinioServer,
    bucket: str,
    caplog: pytest.LogCaptureFixture,
    seed: int,
    every: tuple[float, float],
) -> None:
    caplog.set_level(logging.CRITICAL)
    url = f"s3://{bucket}/root?endpoint={proxy.endpoint}"
    store = open_store(url, access_key=minio_server.access_key, secret_key=minio_server.secret_key)
    made = [runs.created(SHAPE.dag, f"w{i}", run_uuid=f"run-{i}", owner=Owner("")) for i in range(RUNS)]
    for created in made:
        RunLog(store, created).blobs.put(b"a function")
    faults = proxy.faults = NetworkFaults(seed, every)
    workers = [Workers(store), Workers(store)]
    managers = [
        Manager(store, Owner(name, name, name), runner, PACE)
        for name, runner in zip(("first", "second"), workers, strict=True)
    ]
    for manager in managers:
        await manager.begin()

    unanswered: list[StoreUnavailableError] = []

    async def finish_run(number: int) -> None:
        """Start a run on the first manager. The second manager takes over every run with an odd number."""
        created, last = made[number], managers[number % 2]
        await async_retry_while_unavailable(lambda: managers[0].start(created), PACE.retry, unanswered.append)
        if last is managers[1]:
            request = ClaimRequest(created.workflow_id, 1, take_over=managers[0].identity)
            with contextlib.suppress(WorkflowConflictError):  # the run is already finished
                await async_retry_while_unavailable(lambda: last.claim(request), PACE.retry, unanswered.append)
        await last.wait_or_resume(RunAddress(url, created.workflow_id, 1, created.run_uuid))

    await with_timeout(
        asyncio.gather(*(finish_run(number) for number in range(RUNS))), 300
    )  # seconds; the network fails all the time
    proxy.faults = lambda: None
    for manager in managers:
        await manager.leave()
    store.close()
    counts = faults.counts
    assert all(counts[name] for name in ("outages", "lost", "gateway", "429", "slow")), counts
    assert counts["outages"] >= (1 if every[0] > 1 else 3)
    _check_claims(in_bucket(client_of(minio_server), bucket, "root"), made, workers, len(unanswered))


def _check_claims(objects: dict[str, bytes], made: list[Created], workers: list[Workers], unanswered: int) -> None:
    claims = []
    for created in made:
        executions = [each for runner in workers for each in runner.executions[created.workflow_id]]
        claims.append(set(check(objects, created.workflow_id, expected=Expected(SHAPE.oracle(), executions)).claims))
    assert claims[0::2] == [{1}] * (RUNS // 2), "a lost reply looked like a claim of another owner"
    # A call that failed may have claimed its run, and the repeated call then claims it again.
    assert all(each <= set(range(1, 3 + unanswered)) for each in claims[1::2])
    assert any({1, 2} <= each for each in claims), "no run was taken over"
