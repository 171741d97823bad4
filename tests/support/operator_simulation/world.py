"""The world of one simulation: virtual time, the network, all systems, and the operators that run the real code."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, TypeVar

from tests.support.operator_simulation.api_server import ApiServer, SimulatedKube
from tests.support.operator_simulation.checks import Checks
from tests.support.operator_simulation.heads import Head, SimulatedRayJobs
from tests.support.operator_simulation.kuberay import KubeRay
from tests.support.operator_simulation.store import Run, SimulatedRuns, Store
from tests.support.simulation.loop import Process, VirtualLoop, context_of, resolve
from workflow.submission import ExitCode, Submission
from workflow_operator.adapters.kube import Object
from workflow_operator.adapters.kuberay import KubeRayClusters
from workflow_operator.adapters.references import KubeReferences
from workflow_operator.adapters.submissions import PackageUpload, Sources, Submissions
from workflow_operator.adapters.workflows import KubeWorkflows
from workflow_operator.api.status import HeadIdentity
from workflow_operator.core.actions import RunRef
from workflow_operator.core.names import UID_LABEL
from workflow_operator.core.observation import Defaults
from workflow_operator.deferred_cleanup import run_forever
from workflow_operator.errors import OperatorError, UnreachableError
from workflow_operator.metrics import Metrics
from workflow_operator.observe import Clients
from workflow_operator.reconcile import Dependencies, Reconciler
from workflow_operator.watch_index import Key

EPOCH = 1_700_000_000.0
NAMESPACE, OPERATOR_NAMESPACE = "team", "rayworkflow"
SECRET = {"AWS_ACCESS_KEY_ID": "a2V5", "AWS_SECRET_ACCESS_KEY": "a2V5"}
DEFAULTS = Defaults("s3://checkpoints/all", "http://minio:9000", "", "store", poll_seconds=15.0)
METRICS = Metrics()
T = TypeVar("T")


class Network:
    """Delays requests and responses, and loses some of them.

    Args:
        world: the simulation.

    Attributes:
        loss_rate: the probability that a request, and separately its response, is lost.
        api_down: whether the API server does not reply.
        heads_unreachable: whether no head replies.
        before_request: called with the target and the kind of each request, directly before it takes effect.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.loss_rate = 0.0
        self.api_down = False
        self.heads_unreachable = False
        self.before_request: Callable[[str, str], None] = lambda target, what: None

    async def request(self, target: str, what: str, effect: Callable[[], T]) -> T:
        """Send a request. It takes effect even if the sender is killed meanwhile."""
        world, chance = self._world, self._world.chance
        if target == "API server" and self.api_down:
            await asyncio.sleep(chance.uniform(0.1, 10.0))
            raise UnreachableError(f"{what}: the API server does not answer")
        response: asyncio.Future[T] = world.loop.create_future()
        lost = chance.random() if target != "store" else 1.0
        if lost < self.loss_rate:
            await asyncio.sleep(1.0)
            raise UnreachableError(f"{what}: the request to the {target} was lost")

        def arrive() -> None:
            self.before_request(target, what)
            try:
                deliver = partial(resolve, response, effect())
            except OperatorError as failure:
                deliver = partial(_reject, response, failure)
            if lost < 2 * self.loss_rate:
                error = UnreachableError(f"{what}: the response of the {target} was lost")
                deliver = partial(_reject, response, error)
            world.later(chance.uniform(0.001, 0.01), deliver)

        world.later(chance.uniform(0.001, 0.01), arrive)
        return await response


def _reject(response: asyncio.Future[T], error: OperatorError) -> None:
    if not response.done():
        response.set_exception(error)


class OperatorProcess:
    """One process of the operator with the real reconciler and the real adapters of Kubernetes and Ray.

    Args:
        world: the simulation.
        name: the name of the process, which is the actor of its writes.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.process = Process(name)
        kube = SimulatedKube(world, self)
        clusters = KubeRayClusters(kube)
        self._references = KubeReferences(kube, lambda files: (b"", "digest"), OPERATOR_NAMESPACE)

        async def library() -> PackageUpload:
            return "library.zip", b""

        async def code(namespace: str, run: RunRef, sha256: str) -> PackageUpload:
            return "code.zip", b""

        async def identity(namespace: str, cluster: str) -> HeadIdentity | None:
            view = await clusters.named(namespace, cluster)
            return view.head.identity if view and view.head else None

        sources = Sources(self._references.token, library, code, identity)
        jobs = Submissions(SimulatedRayJobs(world), sources, "http://{ip}:8265")
        self._runs = SimulatedRuns(world)
        clients = Clients(KubeWorkflows(kube), clusters, jobs, self._runs, self._references)
        self.clients = clients
        self.reconciler = Reconciler(Dependencies(clients, DEFAULTS, self._now, METRICS, self))
        world.api.hooks.append(self._changed)

    @property
    def works(self) -> bool:
        """Whether the process is running."""
        return self.process.alive and not self.process.stopped

    def start(self) -> None:
        """Start the process. It lists all Workflows first."""
        self.world.loop.spawn(self.process, self._serve())

    def kill(self) -> None:
        """Kill the process, unless it is dead. Requests that it sent may still take effect."""
        if self.process.alive:
            self.process.alive = False
            self.world.api.hooks.remove(self._changed)

    async def reach(self, point: str) -> None:
        """Called by the reconciler at each failpoint."""
        self.world.reached(self, point)
        if not self.process.alive:
            await self.world.loop.create_future()  # the process never continues

    def _now(self) -> float:
        return self.world.now() + self.world.clock_error

    async def _serve(self) -> None:
        for found in self.world.api.list("workflows", None, {}):
            self.reconciler.trigger(Key(NAMESPACE, found["metadata"]["name"]))
        await run_forever(self._references, self._runs, self._now)

    def _changed(self, actor: str, plural: str, before: Object | None, after: Object | None) -> None:
        """Send a watch event, unless the watch is interrupted."""
        if plural in ("workflows", "rayclusters", "pods") and not self.world.watches_silent:
            delay = self.world.chance.uniform(0.01, 0.3)
            self.world.loop.call_later(delay, self._trigger, plural, after or before, context=context_of(self.process))

    def _trigger(self, plural: str, changed: Object) -> None:
        meta, index = changed["metadata"], self.reconciler.watch_index
        labels = meta.get("labels") or {}
        if plural == "workflows":
            keys = {Key(NAMESPACE, meta["name"])}
        elif plural == "rayclusters":
            keys = index.by_cluster(NAMESPACE, meta["name"], labels.get(UID_LABEL, ""))
        else:
            keys = index.by_pod(NAMESPACE, labels.get("ray.io/cluster", ""))
        for key in sorted(keys):
            self.reconciler.trigger(key)


class World:
    """All systems of a simulation.

    Args:
        seed: decides everything that is random.

    Attributes:
        clock_error: seconds by which the operator's clock is wrong.
        watches_silent: whether watch events are lost.
        operator_started: the loop's time at which the current operator started.
        points: the failpoints that were reached so far, in order.
        at_point: called with each of them and its operator.
        seconds_per_step: the range of the duration of a step.
    """

    def __init__(self, seed: int) -> None:
        self.namespace = NAMESPACE
        self.chance = Random(seed)
        self.loop = VirtualLoop(self.chance)  # type: ignore[abstract]  # what the operator needs of a loop
        self.trace: list[str] = []
        self.counts: Counter[str] = Counter()
        self.api = ApiServer(self)
        self.network = Network(self)
        self.store = Store(self)
        self.heads: dict[str, Head] = {}
        self.checks = Checks(self)
        self.kuberay = KubeRay(self)
        self.operators: list[OperatorProcess] = []
        self.operator_started = 0.0
        self.clock_error = 0.0
        self.watches_silent = False
        self.points: list[str] = []
        self.at_point: Callable[[OperatorProcess, str], None] = lambda operator, point: None
        self.seconds_per_step = (2.0, 12.0)
        self.steps = 5
        self.api.create("user", "namespaces", "", {"metadata": {"name": NAMESPACE, "finalizers": ["kubernetes"]}})
        self.api.create("user", "secrets", NAMESPACE, {"metadata": {"name": "store"}, "data": SECRET})
        self.api.create("user", "configmaps", NAMESPACE, {"metadata": {"name": "trip-code"}, "data": {"trip.py": ""}})

    def now(self) -> float:
        """Return the true time, in seconds since 1970."""
        return EPOCH + self.loop.time()

    def later(self, seconds: float, call: Callable[..., object], *args: Any) -> None:
        """Call a function of the environment after a time, in seconds."""
        self.loop.call_later(seconds, call, *args, context=context_of(None))

    def log(self, text: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{self.loop.time():9.3f} {text}")

    def count(self, event: str) -> None:
        """Count an event."""
        self.counts[event] += 1

    def step_seconds(self) -> float:
        """Return the duration of the next step."""
        return self.chance.uniform(*self.seconds_per_step)

    @property
    def operator(self) -> OperatorProcess | None:
        """The operator that was started last, or None if it was killed."""
        return self.operators[-1] if self.operators and self.operators[-1].process.alive else None

    def start_operator(self) -> None:
        """Start another process of the operator."""
        operator = OperatorProcess(self, f"operator-{len(self.operators) + 1}")
        self.log(f"{operator.name} starts")
        self.operators.append(operator)
        self.operator_started = self.loop.time()
        operator.start()

    def kill_operator(self, restart_after: float) -> None:
        """Kill the operator, and start another one after a time in seconds."""
        if self.operator is not None:
            self.log(f"{self.operator.name} is killed")
            self.operator.kill()
            self.later(restart_after, self.start_operator)

    def reached(self, operator: OperatorProcess, point: str) -> None:
        """Record a failpoint."""
        self.points.append(point)
        self.at_point(operator, point)

    def head_at(self, address: str) -> Head | None:
        """Return the head with this address of the dashboard, or None."""
        return self.heads.get(address.removeprefix("http://").rpartition(":")[0])

    def stop_head(self, head: Head) -> None:
        """End all processes of a head."""
        head.process.alive = False

    def enter(self, submission: Submission, manager: str) -> tuple[Run | None, ExitCode | None]:
        """Let a driver create, attach to or claim its run."""
        run, code = self.store.enter(submission, manager, self.steps)
        outcome = f"epoch {run.epoch}" if run is not None and code is None else f"exit code {code}"
        self.log(f"attempt {submission.attempt} of {submission.uid} on {manager}: {outcome}")
        return run, code

    def create_workflow(self, name: str, spec: dict[str, Any]) -> None:
        """Create a Workflow, as a user does."""
        self.api.create("user", "workflows", NAMESPACE, {"metadata": {"name": name}, "spec": spec})

    def workflow(self, name: str) -> Object | None:
        """Return a Workflow as JSON, or None."""
        return self.api.get("workflows", NAMESPACE, name)

    def change(self, name: str, **spec: Any) -> None:
        """Change the spec of a Workflow, as a user does."""
        self.log(f"user changes {name}: {spec}")
        self.api.patch("user", "workflows", NAMESPACE, name, {"spec": spec})

    def annotate(self, name: str, **annotations: str) -> None:
        """Set annotations of a Workflow with the prefix of the project, as a user does."""
        named = {f"rayworkflow.dev/{key}": value for key, value in annotations.items()}
        self.api.patch("user", "workflows", NAMESPACE, name, {"metadata": {"annotations": named}})

    def delete(self, name: str) -> None:
        """Delete a Workflow, as a user does."""
        self.log(f"user deletes {name}")
        self.api.delete("user", "workflows", NAMESPACE, name)

    def add_shared_cluster(self, name: str) -> None:
        """Create a RayCluster that selectors match, as a user does."""
        body = {"metadata": {"name": name, "labels": {"pool": "a"}}, "spec": {}}
        self.api.create("user", "rayclusters", NAMESPACE, body)
