"""Interprets the JSON of one pod of a RayCluster: its Ray container, its sidecars, and why it does not run.

KubeRay treats the first container of a pod template as the Ray container. An injector may put a sidecar in front of it.
So here the container is found by its name. Only its readiness counts, and not that of a sidecar.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from workflow_operator.adapters.kube import Object
from workflow_operator.api.base import parse_time
from workflow_operator.core.observation import KILLED, OOM_KILLED, PodProblem
from workflow_operator.core.texts import clip

STARTING_REASONS = frozenset({"", "ContainerCreating", "PodInitializing"})
"""Reasons of a waiting container that starts normally."""
START_COMMAND = "KUBERAY_GEN_RAY_START_CMD"
"""A variable that KubeRay adds to the Ray container, and to no other one."""
GROUP_LABEL = "ray.io/group"
_SHOWN = 300
"""Longest message of the kubelet about a pod, in characters."""

Status = Mapping[str, Any]
"""The status of one container."""


def ray_container_names(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return the name of the Ray container of each group of a RayCluster; the head has the key `head`.

    Args:
        spec: the spec of the RayCluster.
    """
    groups = [("head", spec.get("headGroupSpec") or {})]
    groups += [(str(group.get("groupName")), group) for group in spec.get("workerGroupSpecs") or ()]
    return {name: _first_container(group) for name, group in groups}


def ray_container(pod: Object, name: str = "") -> Status:
    """Return the status of the Ray container; empty before the kubelet wrote it.

    Args:
        pod: the JSON of the pod.
        name: the name of the Ray container in the template, or empty if it is not known.
    """
    containers = pod["spec"]["containers"]
    by_name = [each["name"] for each in containers if name and each["name"] == name]
    by_command = [each["name"] for each in containers if any(_is_start_command(env) for env in each.get("env") or ())]
    found = (*by_name, *by_command, containers[0]["name"])[0]
    return next((each for each in _statuses(pod, "containerStatuses") if each["name"] == found), {})


def is_ready(pod: Object, name: str = "") -> bool:
    """Return whether the Ray container is ready. If only a sidecar is not ready, the pod counts as ready.

    A pod whose node is lost is not ready, although the last report of its containers remains.

    Args:
        pod: the JSON of the pod.
        name: the name of the Ray container in the template, or empty.
    """
    conditions = conditions_of(pod)
    if (conditions.get("Ready") or {}).get("status") == "True":
        return True
    containers_ready = (conditions.get("ContainersReady") or {}).get("status")
    return containers_ready == "False" and ray_container(pod, name).get("ready") is True


def sidecars_not_ready(pod: Object, name: str = "") -> tuple[str, ...]:
    """Return the names of the containers that must be ready besides the Ray container, and are not.

    Args:
        pod: the JSON of the pod.
        name: the name of the Ray container in the template, or empty.
    """
    ray = ray_container(pod, name).get("name")
    native = _native_sidecars(pod)
    statuses = [each for each in _statuses(pod, "initContainerStatuses") if each["name"] in native]
    statuses += [each for each in _statuses(pod, "containerStatuses") if ray is not None and each["name"] != ray]
    return tuple(each["name"] for each in statuses if not each.get("ready") and not _has_completed(each))


def end_of(status: Status) -> str:
    """Describe how a container last ended, for example `OOMKilled, exit code 137`; empty if it never ended."""
    ended = _last_end(status)
    parts = [str(ended.get("reason") or "")]
    parts += [f"exit code {ended['exitCode']}"] if "exitCode" in ended else []
    return ", ".join(filter(None, parts))


def end_of_ray_container(pod: Object, name: str = "") -> str:
    """Describe how the Ray container last ended, with its memory limit if it ran out of memory; or empty.

    Args:
        pod: the JSON of the pod.
        name: the name of the Ray container in the template, or empty.
    """
    status = ray_container(pod, name)
    text = end_of(status)
    if not text or not _is_oom(_last_end(status)):
        return text
    limit = _memory_limit(pod, str(status["name"]))
    return f"{text}, {f'memory limit {limit}' if limit else 'no memory limit'}"


def why_ended(pod: Object, name: str = "") -> str:
    """Describe why a pod ended: the end of a container, the Ray container first, and the words of the kubelet.

    Args:
        pod: the JSON of the pod.
        name: the name of the Ray container in the template, or empty.
    """
    status, ray = pod.get("status") or {}, ray_container(pod, name)
    text = ""
    if (ray.get("state") or {}).get("terminated"):
        text = end_of_ray_container(pod, name)
    elif status.get("phase") == "Failed":
        failed = ((each, kind) for each, kind in _containers(pod, ray) if kind and _has_failed(each))
        text = next((f"{kind}{end_of(each)}" for each, kind in failed), "")
    words = clip(" ".join(str(status.get("message") or "").split()), _SHOWN)
    return ", ".join(filter(None, (text, words)))


def pod_problem(pod: Object, name: str = "") -> PodProblem | None:
    """Return why a pod does not start or run, with the reason that Kubernetes gives, or None.

    Args:
        pod: the JSON of the pod.
        name: the name of the Ray container in the template, or empty.
    """
    found = next(_problems(pod, name), None)
    is_deleted = "deletionTimestamp" in pod["metadata"]
    return None if found is None or (is_deleted and found.reason not in KILLED) else found


def _problems(pod: Object, name: str) -> Iterator[PodProblem]:
    meta, status, ray = pod["metadata"], pod.get("status") or {}, ray_container(pod, name)
    made, who = _seconds(meta["creationTimestamp"]), f"pod {meta['name']}"
    ended = _last_end(ray)
    since = _seconds(ended["finishedAt"]) if ended.get("finishedAt") else made
    if _is_oom(ended):
        yield PodProblem(OOM_KILLED, f"{who}: {end_of_ray_container(pod, name)}{_restarts(ray)}", since)
    for container, kind in _containers(pod, ray):
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason") or ""
        if reason not in STARTING_REASONS:
            text = f"{who}, {kind}image {container.get('image')}: {waiting.get('message') or reason}"
            last = end_of(container)
            yield PodProblem(reason, f"{text}; it last ended with {last}" if last else text, made)
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            reason = condition.get("reason") or "Unschedulable"
            text = f"{who}: {condition.get('message') or reason}"
            yield PodProblem(reason, text, _seconds(condition["lastTransitionTime"]))
    if status.get("phase") == "Failed":
        why = why_ended(pod, name) or "the pod failed"
        yield PodProblem(status.get("reason") or ended.get("reason") or "Failed", f"{who}: {why}", since)
    state = (ray.get("state") or {}).get("terminated") or {}
    if state.get("exitCode"):  # a sidecar that still runs keeps the pod in phase Running
        text = f"{who}: the Ray container ended with {end_of_ray_container(pod, name)}"
        yield PodProblem(state.get("reason") or "Error", text, since)


def _containers(pod: Object, ray: Status) -> Iterator[tuple[Status, str]]:
    """Yield the statuses of all containers, the Ray container first, with words that describe the others."""
    if ray:
        yield ray, ""
    native = _native_sidecars(pod)
    for each in _statuses(pod, "initContainerStatuses"):
        yield each, f"{'sidecar' if each['name'] in native else 'init container'} {each['name']}, "
    for each in _statuses(pod, "containerStatuses"):
        if each["name"] != ray.get("name"):
            yield each, f"sidecar {each['name']}, "


def _native_sidecars(pod: Object) -> set[str]:
    """Return the names of the init containers that run as long as the pod."""
    return {each["name"] for each in pod["spec"].get("initContainers") or () if each.get("restartPolicy") == "Always"}


def _last_end(status: Status) -> Mapping[str, Any]:
    found = (status.get("state") or {}).get("terminated") or (status.get("lastState") or {}).get("terminated")
    return found or {}


def _is_oom(ended: Mapping[str, Any]) -> bool:
    return ended.get("reason") == OOM_KILLED


def _restarts(status: Status) -> str:
    count = int(status.get("restartCount") or 0)
    return f"; it was restarted {count} time{'' if count == 1 else 's'}" if count else ""


def _has_failed(status: Status) -> bool:
    return bool(((status.get("state") or {}).get("terminated") or {}).get("exitCode"))


def _has_completed(status: Status) -> bool:
    return ((status.get("state") or {}).get("terminated") or {}).get("exitCode") == 0


def _memory_limit(pod: Object, name: str) -> str:
    limits = (
        (each.get("resources") or {}).get("limits") or {} for each in pod["spec"]["containers"] if each["name"] == name
    )
    return str(next(limits, {}).get("memory") or "")


def _first_container(group: Mapping[str, Any]) -> str:
    spec = (group.get("template") or {}).get("spec") or {}
    first: Mapping[str, Any] = next(iter(spec.get("containers") or ()), {})
    return str(first.get("name") or "")


def _is_start_command(env: Mapping[str, Any]) -> bool:
    return env.get("name") == START_COMMAND


def _statuses(pod: Object, kind: str) -> list[Status]:
    return list((pod.get("status") or {}).get(kind) or ())


def conditions_of(found: Object) -> dict[str, Mapping[str, Any]]:
    """Return the conditions in the status of an object, by their type."""
    return {each["type"]: each for each in (found.get("status") or {}).get("conditions") or ()}


def _seconds(time: str) -> float:
    return float(parse_time(time))
