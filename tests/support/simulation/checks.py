"""The checks after a simulation: the result of each run, and the keys that should be gone."""

from __future__ import annotations

from typing import Any

from tests.support import checker, stored
from tests.support.history import Expected
from tests.support.simulation.clients import RunPlan
from tests.support.simulation.environment import Environment


def problems_of(environment: Environment, plan: RunPlan, objects: dict[str, bytes]) -> list[str]:
    """Return what is wrong with one run."""
    entries = sorted(key for key in objects if key.startswith(f"workflows/{plan.workflow_id}/registry/"))
    if entries:
        newest = stored.parsed(entries[-1], objects[entries[-1]])[1][0]
        if newest["k"] == "Tombstone":
            expected = newest["reason"] == "Abandoned" or plan.outside_requests & {"end", "delete"}
            return [] if expected else [f"{plan.workflow_id} has a tombstone, but no client ended or deleted it"]
    run = environment.observer.runs.get(plan.run_uuid)
    terminal = run.terminal if run is not None else None
    if run is None or terminal is None:
        return [f"{plan.workflow_id} is not finished"]
    succeeded = terminal["status"] == "SUCCESSFUL"
    value = plan.value_for(run.decisions)
    expected = Expected(value if succeeded else None, run.executions)
    try:
        checker.check(objects, plan.workflow_id, expected=expected)
    except AssertionError as error:
        return [f"{plan.workflow_id}: {error}"]
    return [
        problem for problem in (_unjustified_status(plan, terminal), _wrong_result(plan, terminal, value)) if problem
    ]


def _wrong_result(plan: RunPlan, terminal: dict[str, Any], expected: bytes | None) -> str:
    """Return how the result that the driver received differs from the log, or an empty string."""
    result = plan.result
    if result is None:
        return ""
    value = result.outcome.value.inline if result.outcome is not None else None
    wrong = result.status != terminal["status"] or (value is not None and value != expected)
    return f"the driver received {result}, but the log contains {terminal}" if wrong else ""


def _unjustified_status(plan: RunPlan, terminal: dict[str, Any]) -> str:
    """Return why the run must not have this terminal state, or an empty string."""
    status, reason = terminal["status"], terminal.get("reason", "")
    if status == "SUCCESSFUL":
        return "" if plan.value is not None else "SUCCESSFUL, although a step always raises"
    if status == "CANCELED":
        request = {"Asked": "cancel", "Outside": "end", "Deleted": "delete"}.get(reason)
        return "" if request in plan.outside_requests else f"CANCELED ({reason}), but no client sent this request"
    justified = {
        "StepFailed": plan.value is None or terminal["error"]["kind"] != "ValueError" or plan.failures_in_total > 0,
        "ResumesExhausted": plan.max_resumes >= 0,
        "Outside": "end" in plan.outside_requests,
    }
    return "" if justified.get(reason) else f"FAILED ({reason}: {terminal.get('error')}) without a cause"


def unneeded_keys(environment: Environment, plans: list[RunPlan], objects: dict[str, bytes]) -> list[str]:
    """Return keys that should have been removed.

    If a manager left for good, the collector removes its `owned/` keys and the requests to their runs. Keys that a
    zombie wrote under `owned/` of the next incarnation are removed when that incarnation starts.
    """
    alive = {cluster.current.process for cluster in environment.clusters if cluster.current is not None}
    uncertain = {plan.run_uuid for plan in plans if plan.request_uncertain}
    for manager in environment.departed:
        uncertain |= {key.rpartition("/")[2] for key in objects if key.startswith(f"owned/{manager}/")}
    unneeded = []
    for key in objects:
        kind, _, rest = key.partition("/")
        manager_is_there = rest.partition("/")[0] not in environment.departed
        is_owned_key = kind == "owned" and manager_is_there and environment.creators[key] in alive
        is_notification = kind == "notifications" and rest.partition(".")[0] not in uncertain
        is_request = "/inbox/" in key and not any(run_uuid in key for run_uuid in uncertain)
        if is_owned_key or is_notification or is_request:
            unneeded.append(key)
    return [f"unneeded key: {key}" for key in unneeded]
