"""Summarizes the worker pods of a RayCluster: how many are ready, and the problem that most of the others have.

The summary has the same size for one worker and for a thousand. It also contains workers that KubeRay could not create,
and workers that it replaced after they were killed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from workflow_operator.adapters.kube import Object, event_time
from workflow_operator.adapters.pod_status import GROUP_LABEL, is_ready, pod_problem
from workflow_operator.api.base import parse_time
from workflow_operator.core.observation import KILLED, OOM_KILLED, PodProblem, WorkersView

DELETED_WORKER = "DeletedWorkerPod"
"""Reason of the event with which KubeRay records why it replaced a worker."""

_SAME_PROBLEM = {"ErrImagePull": "ImagePullBackOff"}
"""Reasons between which a pod alternates, so that a condition does not alternate too."""

_KILLED_WORKER = re.compile(r"Pod [^/\s]+/(?P<pod>[^;\s]+);.*ExitCode:(?P<code>\d+),.*Reason:OOMKilled", re.DOTALL)


@dataclass
class _Group:
    """The workers with the same problem, and the one that describes it."""

    count: int
    shown: PodProblem


def workers_view(
    status: Mapping[str, Any], pods: Iterable[Object], names: Mapping[str, str], events: Iterable[Object] = ()
) -> WorkersView:
    """Summarize the workers of a RayCluster.

    Args:
        status: the status of the RayCluster.
        pods: the JSON of its worker pods.
        names: the name of the Ray container of each worker group.
        events: the events of KubeRay about deleted workers.
    """
    desired, ready, living = int(status.get("desiredWorkerReplicas") or 0), 0, 0
    groups: dict[str, _Group] = {}
    killed: list[PodProblem] = []
    for pod in sorted(pods, key=lambda each: str(each["metadata"]["name"])):
        name = names.get((pod["metadata"].get("labels") or {}).get(GROUP_LABEL, ""), "")
        living += is_living(pod)
        pod_is_ready = is_living(pod) and is_ready(pod, name)
        ready += pod_is_ready
        found = pod_problem(pod, name)
        if found is not None and found.reason in KILLED:
            killed.append(found)
        if found is not None and not pod_is_ready:
            _add(groups, found, 1)
    refused = creation_failure(status)
    if refused is not None:
        _add(groups, refused, max(desired - living, 1))
    killed += filter(None, map(_killed, events))
    last_killed = max(killed, key=lambda each: each.since, default=None)
    if not groups:
        return WorkersView(desired, ready, killed=last_killed)
    reason, most = max(sorted(groups.items()), key=lambda item: item[1].count)
    others = [f"{other} ({group.count})" for other, group in sorted(groups.items()) if other != reason]
    also = f"; other workers: {', '.join(others)}" if others else ""
    text = f"{most.shown.message}{also}"
    affected = 0 if most.shown is refused else most.count
    return WorkersView(desired, ready, PodProblem(reason, text, most.shown.since), affected, last_killed)


def lacks_workers(status: Mapping[str, Any], pods: Iterable[Object]) -> bool:
    """Return whether KubeRay must replace a worker, and has not reported that it cannot.

    Args:
        status: the status of the RayCluster.
        pods: the JSON of its worker pods.
    """
    desired = int(status.get("desiredWorkerReplicas") or 0)
    return creation_failure(status) is None and sum(map(is_living, pods)) < desired


def is_living(pod: Object) -> bool:
    """Return whether a pod is neither finished nor being deleted."""
    phase = (pod.get("status") or {}).get("phase")
    return "deletionTimestamp" not in pod["metadata"] and phase not in ("Failed", "Succeeded")


def creation_failure(status: Mapping[str, Any]) -> PodProblem | None:
    """Return why KubeRay could not create or delete a worker, for example because of a quota; or None.

    Args:
        status: the status of the RayCluster.
    """
    for condition in status.get("conditions") or ():
        reason = str(condition.get("reason") or "")
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True" and "Worker" in reason:
            message = " ".join(str(condition.get("message") or "").split())
            text = f"KubeRay reports {reason}: {message.removeprefix(reason).strip()}"
            return PodProblem(reason, text, float(parse_time(condition["lastTransitionTime"])))
    return None


def _add(groups: dict[str, _Group], found: PodProblem, count: int) -> None:
    reason = _SAME_PROBLEM.get(found.reason, found.reason)
    group = groups.setdefault(reason, _Group(0, found))
    group.count += count


def _killed(event: Object) -> PodProblem | None:
    """Return the worker that was replaced because it ran out of memory, as KubeRay's event describes it; or None."""
    message = _KILLED_WORKER.search(str(event.get("message") or ""))
    time = event_time(event)
    if event.get("reason") != DELETED_WORKER or message is None or not time:
        return None
    text = f"pod {message['pod']}: {OOM_KILLED}, exit code {message['code']}; KubeRay replaced it"
    return PodProblem(OOM_KILLED, text, float(parse_time(time)))
