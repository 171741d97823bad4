"""Carries out the faults of a schedule on the cluster. Each fault ends by itself after a bounded time."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from dev import addons
from dev.console import SetupError
from dev.kube import Object
from tests.e2e.chaos.schedule import Fault, Kind
from tests.e2e.namespace import WorkflowNamespace
from tests.e2e.release import REAPER, TOOLS

QUOTA_SECONDS: Final = 40.0
DASHBOARD: Final = "dashboard/dashboard.py"
QUOTA: Final = "no-new-pod"
SIGNAL: Final = """
import contextlib, os, pathlib, signal
count = 0
for folder in pathlib.Path("/proc").iterdir():
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the process ended meanwhile
        if folder.name.isdigit() and {pod!r} in (folder / "cgroup").read_text().replace("_", "-"):
            words = (folder / "cmdline").read_bytes().replace(b"\\0", b" ").decode(errors="replace")
            if {only!r} in words:
                os.kill(int(folder.name), signal.{signal})
                count += 1
print(count)
"""
"""Sends a signal to the processes of a pod. It runs in a pod that sees all processes of the node."""


@dataclass
class Injector:
    """Carries out faults in one namespace.

    Attributes:
        namespace: where the faults happen.
        frozen_seconds: how long a head or a dashboard is frozen.
        counts: how many faults of each kind were carried out.
        hits: the kinds of faults that each RayCluster was hit by.
    """

    namespace: WorkflowNamespace
    frozen_seconds: float
    counts: Counter[Kind] = field(default_factory=Counter)
    hits: dict[str, list[Kind]] = field(default_factory=lambda: defaultdict(list))
    _later: list[threading.Thread] = field(default_factory=list)

    def carry_out(self, fault: Fault) -> str:
        """Carry out a fault, and return what was hit; empty if it has no target at this time."""
        try:
            target = self._carry_out(fault)
        except SetupError as error:  # the target ended between its choice and the fault
            return f"nothing: {str(error).splitlines()[0]}"
        if target:
            self.counts[fault.kind] += 1
        return target

    def settle(self) -> None:
        """Wait until each fault that lasts has ended."""
        for thread in self._later:
            thread.join()

    def _carry_out(self, fault: Fault) -> str:
        kubectl, release = self.namespace.kubectl, self.namespace.release
        match fault.kind:
            case Kind.HEAD_KILLED | Kind.HEAD_FROZEN | Kind.DASHBOARD_FROZEN:
                return self._hit_head(fault)
            case Kind.WORKER_KILLED:
                return self._hit(fault, self._pods("worker"), lambda pod: self.namespace.kill_pod(_name(pod)))
            case Kind.CLUSTER_DELETED:
                own = [pod for pod in self._pods("head") if "rayworkflow.dev/workflow" in pod["metadata"]["labels"]]
                return self._hit(fault, own, lambda pod: self.namespace.delete("raycluster", _cluster(pod)))
            case Kind.QUOTA:
                self._forbid_pods()
                return self.namespace.name
            case Kind.STORE_RESTARTED:
                self.namespace.bucket.stop_server()
                return "MinIO"
            case Kind.KUBERAY_KILLED:
                kubectl.kubectl("-n", addons.NAMESPACE, "delete", "pod", "--all", "--grace-period=0", "--force")
                return "KubeRay"
            case Kind.OPERATOR_KILLED:
                release.kill_operator()
                return "the operator"

    def _hit_head(self, fault: Fault) -> str:
        act: dict[Kind, Callable[[Object], object]] = {
            Kind.HEAD_KILLED: lambda pod: self.namespace.kill_pod(_name(pod)),
            Kind.HEAD_FROZEN: self._freeze,
            Kind.DASHBOARD_FROZEN: lambda pod: self._freeze(pod, DASHBOARD),
        }
        return self._hit(fault, self._pods("head"), act[fault.kind])

    def _hit(self, fault: Fault, pods: list[Object], act: Callable[[Object], object]) -> str:
        """Apply a fault to one of the pods."""
        if not pods:
            return ""
        chosen = fault.choose([_name(pod) for pod in pods])
        pod = next(pod for pod in pods if _name(pod) == chosen)
        self.hits[_cluster(pod)].append(fault.kind)
        act(pod)
        return chosen

    def _pods(self, node_type: str) -> list[Object]:
        """Return the running pods of one type that are not being deleted."""
        pods = self.namespace.kubectl.objects("pods", self.namespace.name, f"ray.io/node-type={node_type}")
        return [
            pod
            for pod in pods
            if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]

    def _freeze(self, pod: Object, only: str = "") -> None:
        """Stop the processes of a pod whose command line contains `only`, and continue them later."""
        self._signal(pod, "SIGSTOP", only)
        self._after(self.frozen_seconds, lambda: self._signal(pod, "SIGCONT", only))

    def _signal(self, pod: Object, name: str, only: str) -> None:
        code = SIGNAL.format(pod=f"pod{pod['metadata']['uid']}", only=only, signal=name)
        self.namespace.kubectl.kubectl("-n", TOOLS, "exec", REAPER, "--", "python", "-c", code)

    def _forbid_pods(self) -> None:
        """Allow no new pod for a time. Pods that exist stay."""
        self.namespace.apply("ResourceQuota", "v1", QUOTA, spec={"hard": {"pods": "0"}})
        self._after(QUOTA_SECONDS, lambda: self.namespace.delete("resourcequota", QUOTA))

    def _after(self, seconds: float, act: Callable[[], object]) -> None:
        """Call a function after a time."""

        def run() -> None:
            threading.Event().wait(seconds)
            act()

        thread = threading.Thread(target=run, name=f"ends a fault after {seconds:.0f} s")
        thread.start()
        self._later.append(thread)


def _name(pod: Object) -> str:
    return str(pod["metadata"]["name"])


def _cluster(pod: Object) -> str:
    return str(pod["metadata"]["labels"]["ray.io/cluster"])
