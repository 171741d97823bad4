"""The faults of the simulation, by name. Each function starts one fault and schedules its end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.support.operator_simulation.checks import Life
from workflow.submission import ExitCode
from workflow_operator.core.log_view import WorkflowStatus
from workflow_operator.core.names import UID_LABEL
from workflow_operator.core.state import TERMINAL

if TYPE_CHECKING:
    from tests.support.operator_simulation.heads import Head, HeadJob
    from tests.support.operator_simulation.world import World

Fault = Callable[["World"], None]


def _seconds(world: World, *choices: float) -> float:
    return world.chance.choice(choices) * world.chance.uniform(0.5, 1.0)


def _live(world: World) -> list[Life]:
    lives = [life for life in world.checks.lives.values() if not life.gone and life.state.phase not in TERMINAL]
    return [life for life in lives if world.workflow(life.name) is not None]


def _set_for(world: World, target: Any, name: str, value: Any, seconds: float) -> None:
    """Set an attribute for a time."""
    before = getattr(target, name)
    setattr(target, name, value)
    world.later(seconds, setattr, target, name, type(before)() if isinstance(before, (bool, float)) else before)


def _heads(world: World) -> list[Head]:
    return [head for head in world.heads.values() if head.process.alive]


def _jobs(world: World) -> list[HeadJob]:
    return [job for head in _heads(world) for job in head.jobs.values() if job.status in ("PENDING", "RUNNING")]


# The operator.


def operator_killed(world: World) -> None:
    world.kill_operator(_seconds(world, 1.0, 5.0, 60.0))


def operator_killed_at_point(world: World) -> None:
    left = world.chance.randint(1, 12)

    def at_point(operator: Any, point: str) -> None:
        nonlocal left
        left -= 1
        if left == 0 and operator is world.operator:
            world.log(f"at failpoint {point}")
            world.kill_operator(_seconds(world, 1.0, 5.0, 60.0))

    world.at_point = at_point


def operator_frozen(world: World) -> None:
    """Stop the operator. Another one becomes the leader, and then the first one continues for a moment."""
    old = world.operator
    if old is None or not old.works:
        return
    old.process.stopped = True
    world.later(15.0, world.start_operator)

    def wake() -> None:
        if old.process.alive:
            world.log(f"{old.name} continues")
            world.loop.resume(old.process)
            world.later(_seconds(world, 0.02, 1.0, 4.0), old.kill)

    world.later(_seconds(world, 20.0, 60.0, 150.0), wake)


def clock_jumps(world: World) -> None:
    error = world.chance.choice((-3600.0, -300.0, -5.0, 5.0, 300.0, 3600.0))
    _set_for(world, world, "clock_error", error, _seconds(world, 5.0, 60.0, 200.0))


def watches_lost(world: World) -> None:
    _set_for(world, world, "watches_silent", True, _seconds(world, 10.0, 100.0))


def api_server_down(world: World) -> None:
    _set_for(world, world.network, "api_down", True, _seconds(world, 5.0, 40.0))


def requests_lost(world: World) -> None:
    _set_for(world, world.network, "loss_rate", world.chance.choice((0.02, 0.1, 0.3)), _seconds(world, 20.0, 100.0))


# Clusters and heads.


def _lose_head(how: str) -> Fault:
    def fault(world: World) -> None:
        heads = _heads(world)
        if heads:
            head = world.chance.choice(heads)
            world.log(f"head {head.pod} is {how}")
            world.kuberay.lose_head(head.cluster, how)

    return fault


def head_replaced(world: World) -> None:
    """KubeRay replaces the next lost heads by empty ones."""
    _set_for(world, world.kuberay, "replaces_heads", True, 60.0)
    _lose_head("deleted")(world)


def head_frozen(world: World) -> None:
    """All processes of a head are stopped, and continue later."""
    heads = [head for head in _heads(world) if head.works]
    if heads:
        head = world.chance.choice(heads)
        head.process.stopped = True
        world.log(f"head {head.pod} is frozen")
        world.later(_seconds(world, 10.0, 50.0, 200.0), _continue, world, head)


def _continue(world: World, head: Head) -> None:
    if head.process.stopped:
        world.log(f"head {head.pod} continues")
        world.loop.resume(head.process)


def cluster_deleted(world: World) -> None:
    clusters = world.api.list("rayclusters", None, {})
    clusters = [each for each in clusters if UID_LABEL in (each["metadata"].get("labels") or {})]
    if clusters:
        name = world.chance.choice(clusters)["metadata"]["name"]
        world.log(f"user deletes RayCluster {name}")
        world.api.delete("user", "rayclusters", world.namespace, name)


def cluster_lingers(world: World) -> None:
    _set_for(world, world.kuberay, "linger_seconds", _seconds(world, 10.0, 90.0), 60.0)


def cluster_suspended(world: World) -> None:
    heads = _heads(world)
    if heads:
        name = world.chance.choice(heads).cluster
        world.log(f"RayCluster {name} is suspended")
        world.kuberay.suspend(name, True)
        world.later(_seconds(world, 10.0, 60.0), world.kuberay.suspend, name, False)


def cluster_queued(world: World) -> None:
    _set_for(world, world.kuberay, "queued", True, _seconds(world, 20.0, 60.0))

    def admit() -> None:
        for cluster in world.api.list("rayclusters", None, {}):
            world.kuberay.suspend(cluster["metadata"]["name"], False)

    world.later(90.0, admit)


def quota(world: World) -> None:
    """The quota refuses new pods. KubeRay reports it for every cluster, also for those that run."""
    world.kuberay.retry()
    _set_for(world, world.kuberay, "quota", "exceeded quota: compute", _seconds(world, 10.0, 100.0))


def image_missing(world: World) -> None:
    _set_for(world, world.kuberay, "image_missing", True, _seconds(world, 20.0, 200.0))


# The Jobs API and drivers.


def _dashboard(mode: str) -> Fault:
    def fault(world: World) -> None:
        heads = _heads(world)
        if heads:
            head = world.chance.choice(heads)
            world.log(f"the dashboard of {head.pod} is {mode}")
            _set_for(world, head, "dashboard", mode, _seconds(world, 10.0, 60.0, 200.0))

    return fault


def heads_unreachable(world: World) -> None:
    _set_for(world, world.network, "heads_unreachable", True, _seconds(world, 10.0, 60.0, 200.0))


def token_missing(world: World) -> None:
    """The Secrets with the tokens of the clusters cannot be read for a time."""
    for head in _heads(world):
        found = world.api.get("secrets", world.namespace, head.cluster)
        if found is not None:
            world.api.delete("user", "secrets", world.namespace, head.cluster)
            world.later(_seconds(world, 10.0, 100.0), _restore, world, "secrets", head.cluster, found["data"])


def _restore(world: World, plural: str, name: str, data: Any) -> None:
    if world.api.get(plural, world.namespace, name) is None and world.namespace not in world.api.terminating:
        world.api.create("user", plural, world.namespace, {"metadata": {"name": name}, "data": data})


def _driver_exits(code: int) -> Fault:
    def fault(world: World) -> None:
        for job in _jobs(world)[:1]:
            world.log(f"a driver exits with code {code}")
            job.exit(code, "the last lines of the log")

    return fault


def bad_input_at_resume(world: World) -> None:
    """The driver of a run that exists already refuses its input, for example on a cluster without credentials."""
    for job in _jobs(world):
        run = world.store.newest(job.submission.workflow_id)
        if run is not None and not run.status.is_terminal and not run.tombstone:
            world.log("a driver refuses its input")
            job.exit(ExitCode.BAD_INPUT, "cannot unpickle the function")
            return


def step_fails(world: World) -> None:
    for life in _live(world):
        run = world.store.newest(life.state.workflow_id)
        if run is not None and run.status is WorkflowStatus.RUNNING:
            run.end(WorkflowStatus.FAILED, "StepFailed", world.now())
            for each in world.checks.lives.values():
                each.may_fail = "a step failed"
            return


# The store.


def _store(mode: str) -> Fault:
    def fault(world: World) -> None:
        world.log(f"the store is {mode}")
        _set_for(world, world.store, "mode", mode, _seconds(world, 10.0, 60.0, 200.0))
        world.later(200.0, setattr, world.store, "mode", "up")

    return fault


def store_emptied(world: World) -> None:
    world.log("the store loses all data")
    world.store.empty()
    for life in world.checks.lives.values():
        life.may_fail = "its data is lost"


def _object_missing(plural: str, name: str) -> Fault:
    def fault(world: World) -> None:
        found = world.api.get(plural, world.namespace, name)
        if found is not None:
            world.log(f"user deletes {plural} {name}")
            world.api.delete("user", plural, world.namespace, name)
            world.later(_seconds(world, 10.0, 100.0), _restore, world, plural, name, found["data"])

    return fault


# Users.


def cancel(world: World) -> None:
    for life in _live(world)[:1]:
        world.change(life.name, cancel=True)


def delete(world: World) -> None:
    for life in _live(world)[:1]:
        world.delete(life.name)


def cancel_without_store(world: World) -> None:
    _store("down")(world)
    cancel(world)


def delete_without_store(world: World) -> None:
    _store("down")(world)
    delete(world)


def spec_edited(world: World) -> None:
    for life in _live(world)[:1]:
        changes: list[dict[str, Any]] = [
            {"recovery": {"maxResumes": 900}},
            {"args": {"origin": "SFO"}},
            {"checkpoints": {"retention": world.chance.choice(("Delete", "Retain"))}},
            {"failureDetection": {"unreachableSeconds": 30}},
        ]
        world.change(life.name, **world.chance.choice(changes))


def template_edited(world: World) -> None:
    for life in _live(world)[:1]:
        found = world.workflow(life.name)
        if found is not None and "template" in found["spec"]["cluster"]:
            labels = {"edited": str(world.chance.randint(1, 9))}
            world.change(life.name, cluster={"template": {"metadata": {"labels": labels}}})


def spec_invalid(world: World) -> None:
    """A user writes an invalid spec for a time, which an old CRD accepts."""
    for life in _live(world)[:1]:
        found = world.workflow(life.name)
        if found is not None:
            entrypoint = found["spec"]["entrypoint"]
            world.change(life.name, entrypoint="no entrypoint")
            correct = partial(world.change, life.name, entrypoint=entrypoint)
            world.later(_seconds(world, 10.0, 60.0), correct)


def user_resumes(world: World) -> None:
    for life in _live(world):
        life.fast = True
        world.annotate(life.name, resume=str(world.chance.random()))


def status_lost(world: World) -> None:
    """The object is restored from a backup without its status."""
    for life in _live(world)[:1]:
        world.log(f"{life.name} loses its status")
        world.checks.forget(life)
        world.api.patch("user", "workflows", world.namespace, life.name, {"status": None})


def namespace_deleted(world: World) -> None:
    world.log("the namespace is deleted")
    world.api.terminating.add(world.namespace)
    world.api.delete("user", "namespaces", "", world.namespace)
    for plural in ("workflows", "rayclusters", "secrets", "configmaps"):
        for found in world.api.list(plural, world.namespace, {}):
            world.api.delete("namespace controller", plural, world.namespace, found["metadata"]["name"])


FAULTS: dict[str, Fault] = {
    "operator killed": operator_killed,
    "operator killed at a failpoint": operator_killed_at_point,
    "operator frozen": operator_frozen,
    "clock jumps": clock_jumps,
    "watches lost": watches_lost,
    "API server down": api_server_down,
    "requests lost": requests_lost,
    "head deleted": _lose_head("deleted"),
    "head terminated": _lose_head("terminated"),
    "head evicted": _lose_head("evicted"),
    "head replaced": head_replaced,
    "head frozen": head_frozen,
    "cluster deleted": cluster_deleted,
    "cluster lingers": cluster_lingers,
    "cluster suspended": cluster_suspended,
    "cluster queued": cluster_queued,
    "quota": quota,
    "image missing": image_missing,
    "dashboard hung": _dashboard("hung"),
    "dashboard slow": _dashboard("slow"),
    "dashboard unauthorized": _dashboard("unauthorized"),
    "dashboard forgets jobs": _dashboard("forgets"),
    "dashboard stale": _dashboard("stale"),
    "dashboard reports failures": _dashboard("failed"),
    "heads unreachable": heads_unreachable,
    "token missing": token_missing,
    "driver killed": _driver_exits(137),
    "driver crashes": _driver_exits(ExitCode.CRASHED),
    "manager unresponsive": _driver_exits(ExitCode.MANAGER_UNRESPONSIVE),
    "bad input at a resume": bad_input_at_resume,
    "step fails": step_fails,
    "store down": _store("down"),
    "store slow": _store("slow"),
    "store read-only": _store("read-only"),
    "store refuses": _store("refused"),
    "store emptied": store_emptied,
    "Secret missing": _object_missing("secrets", "store"),
    "ConfigMap missing": _object_missing("configmaps", "trip-code"),
    "cancel": cancel,
    "delete": delete,
    "cancel while the store is down": cancel_without_store,
    "delete while the store is down": delete_without_store,
    "spec edited": spec_edited,
    "template edited": template_edited,
    "spec invalid": spec_invalid,
    "user resumes": user_resumes,
    "status lost": status_lost,
    "namespace deleted": namespace_deleted,
}
"""Name -> fault. Add new ones at the end: a seed chooses by position."""


def heal(world: World) -> None:
    """End all faults."""
    world.log("all faults end")
    world.clock_error, world.watches_silent = 0.0, False
    world.network.loss_rate, world.network.api_down, world.network.heads_unreachable = 0.0, False, False
    world.store.mode = "up"
    kuberay = world.kuberay
    kuberay.quota, kuberay.image_missing, kuberay.replaces_heads = "", False, False
    kuberay.queued, kuberay.linger_seconds = False, 0.0
    kuberay.retry()
    for cluster in world.api.list("rayclusters", None, {}):
        kuberay.suspend(cluster["metadata"]["name"], False)
    for head in _heads(world):
        head.dashboard = "up"
        _continue(world, head)
    world.at_point = lambda operator, point: None
    for operator in world.operators:
        if operator.process.alive:
            operator.kill()
    world.start_operator()
