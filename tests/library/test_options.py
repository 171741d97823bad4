"""Options of steps: merging, options that are passed to Ray, and refused options with their alternatives."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import ray
from ray._private import state
from ray.util import scheduling_strategies as strategies
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

import workflow
from tests.support.marks import Marks
from tests.support.waiting import until
from workflow import options
from workflow.engine.strategies import decode, encode
from workflow.errors import InvalidInputError
from workflow.model.graph import StepOptions

pytestmark = pytest.mark.usefixtures("storage")
UNKNOWN_NODE = "ab" * 28


@workflow.step(name="old", metadata={"k": "v"}, max_retries=2, num_cpus=0.5)
def plain(marks: Marks) -> str:
    marks.started("plain")
    return ray.get_runtime_context().get_node_id()


# --- merging ---


def test_options_are_merged_with_earlier_ones(marks: Marks, wid: str) -> None:
    first = plain.options(name="new", metadata={"one": 1}, num_cpus=None)
    first.options(metadata={"two": 2}, memory=1000, num_returns=1).step(marks).run(wid)
    metadata = workflow.get_metadata(wid, "new")
    assert metadata["user_metadata"] == {"k": "v", "one": 1, "two": 2}
    assert metadata["step_options"]["max_retries"] == 2
    assert metadata["step_options"]["ray_options"] == {"memory": 1000}
    plain.step(marks).run(f"{wid}-old")
    assert workflow.get_metadata(f"{wid}-old", "old")["step_options"]["ray_options"] == {"num_cpus": 0.5}


@pytest.mark.parametrize("name", options.LIBRARY_OPTIONS)
def test_library_option_none_keeps_the_value(name: str) -> None:
    base = StepOptions(3, True, False, True, {"num_cpus": 2}, '{"a": 1}')
    assert options.merged({name: None}, base) == base


# --- refused options ---


def test_every_task_option_of_ray_is_known() -> None:
    with pytest.raises(ValueError, match="Invalid option keyword nonsense") as refused:
        ray.remote(lambda: None).options(nonsense=1)
    valid = set(re.findall(r"'(\w+)'", str(refused.value).split("Valid ones are")[1]))
    assert {"num_cpus", "max_calls"} <= valid
    assert valid <= {*options.LIBRARY_OPTIONS, *options.RAY_OPTIONS, *options.REFUSED, *options.PLACEMENT}


@pytest.mark.parametrize("name", sorted(options.REFUSED))
def test_refused_option_is_reported_with_the_alternative(name: str) -> None:
    default, alternative = options.REFUSED[name]
    with pytest.raises(InvalidInputError, match=re.escape(f"a step cannot have {name}=7: {alternative}")):
        plain.options(**{name: 7})
    plain.options(**{name: default})


@pytest.mark.parametrize(
    ("given", "text"),
    [
        pytest.param({"nonsense": 1}, "unknown step option nonsense; known options: allow_inplace", id="unknown"),
        pytest.param({"resources": {"x": object()}}, "option resources must consist of JSON values", id="not JSON"),
        pytest.param({"scheduling_strategy": "NEAR"}, 'must be "DEFAULT", "SPREAD" or one of', id="strategy"),
        pytest.param({"allow_inplace": "yes"}, "allow_inplace must be True or False", id="inplace"),
        pytest.param({"catch_exceptions": 1}, "catch_exceptions must be True or False", id="catch"),
        pytest.param({"name": 7}, "name must be a string", id="name"),
    ],
)
def test_invalid_option_is_refused_when_composing(given: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        plain.options(**given)
    with pytest.raises(ValueError, match=text):
        workflow.step(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"num_cpus": -1},
        {"num_gpus": "1"},
        {"memory": -1},
        {"resources": {"CPU": 1}},
        {"accelerator_type": 7},
        {"label_selector": {"zone": 7}},
        {"fallback_strategy": [{"label_selector": {"zone": 7}}]},
        {"enable_task_events": 7},
        {"runtime_env": {"env_vars": {"A": 7}}},
        {"_labels": 7},
    ],
    ids=str,
)
def test_option_that_ray_refuses_is_refused_when_composing(given: dict[str, Any]) -> None:
    ((name, value),) = given.items()
    text = re.escape(f"Ray does not accept {name}={value!r}: ")
    with pytest.raises(InvalidInputError, match=text):
        plain.options(**given)
    with pytest.raises(InvalidInputError, match=text):
        workflow.step(max_retries=2, **given)


# --- options for Ray ---


LABELS = strategies.NodeLabelSchedulingStrategy(
    {"zone": strategies.In("a", "b"), "gpu": strategies.Exists()}, soft={"spot": strategies.DoesNotExist()}
)


@pytest.mark.parametrize(
    "strategy",
    [
        pytest.param("DEFAULT", id="default"),
        pytest.param("SPREAD", id="spread"),
        pytest.param(strategies.NodeAffinitySchedulingStrategy(UNKNOWN_NODE, soft=True), id="node"),
        pytest.param(
            strategies.NodeAffinitySchedulingStrategy(UNKNOWN_NODE, soft=False, _fail_on_unavailable=True), id="fail"
        ),
        pytest.param(LABELS, id="labels"),
        pytest.param(strategies.PlacementGroupSchedulingStrategy(None), id="no group"),
    ],
)
def test_scheduling_strategy_survives_json(strategy: Any) -> None:
    stored = json.loads(json.dumps(encode(strategy)))
    decoded = decode(stored)
    assert type(decoded) is type(strategy)
    assert encode(decoded) == stored


def test_step_runs_on_the_requested_node(marks: Marks) -> None:
    here = ray.get_runtime_context().get_node_id()
    hard = strategies.NodeAffinitySchedulingStrategy(here, soft=False)
    assert plain.options(scheduling_strategy=hard).step(marks).run() == here


@pytest.mark.parametrize("strategy", ["SPREAD", strategies.NodeAffinitySchedulingStrategy(UNKNOWN_NODE, soft=True)])
def test_soft_node_affinity_to_a_lost_node_runs_elsewhere(marks: Marks, strategy: Any) -> None:
    plain.options(scheduling_strategy=strategy).step(marks).run()
    assert marks.starts() == {"plain": 1}


def test_hard_node_affinity_to_a_lost_node_fails(marks: Marks) -> None:
    hard = strategies.NodeAffinitySchedulingStrategy(UNKNOWN_NODE, soft=False)
    with pytest.raises(
        RuntimeError, match=r"could not be executed by Ray: TaskUnschedulableError: .*doesn't exist any more"
    ):
        plain.options(scheduling_strategy=hard).step(marks).run()
    assert not marks.starts()


def test_step_fails_if_its_placement_group_is_gone(marks: Marks) -> None:
    @workflow.step
    def group_of() -> str:
        return ray.util.get_current_placement_group().id.hex()

    group = placement_group([{"CPU": 1}])
    ray.get(group.ready())
    grouped = group_of.options(scheduling_strategy=strategies.PlacementGroupSchedulingStrategy(group, 0, True))
    assert grouped.step().run() == group.id.hex()
    remove_placement_group(group)
    with pytest.raises(RuntimeError, match=f"no placement group {group.id.hex()}"):
        grouped.step().run()
    other = ray.PlacementGroupID.from_random()
    unknown = strategies.PlacementGroupSchedulingStrategy(PlacementGroup(other))
    with pytest.raises(RuntimeError, match=f"no placement group {other.hex()}"):
        plain.options(scheduling_strategy=unknown).step(marks).run()


def test_worker_has_the_requested_resources(marks: Marks) -> None:
    @workflow.step(num_cpus=2, memory=10_000_000, resources={"special": 0.25}, runtime_env={"env_vars": {"A": "1"}})
    def inspects() -> Any:
        import os

        return ray.get_runtime_context().get_assigned_resources(), os.environ["A"]

    resources, variable = inspects.step().run()
    assert resources == {"CPU": 2.0, "memory": 10_000_000.0, "special": 0.25}
    assert variable == "1"


@pytest.mark.parametrize("options", [{}, {"num_gpus": 0.5}], ids=["no resources", "a GPU"])
def test_inplace_steps_run_in_the_process_of_the_dynamic_step(
    options: dict[str, Any],
) -> None:
    import os

    @workflow.step(allow_inplace=True)
    def deeper(pids: list[int]) -> Any:
        pids = [*pids, os.getpid()]
        return pids if len(pids) == 5 else deeper.step(pids)

    @workflow.step
    def gpus() -> float:
        return float(ray.get_runtime_context().get_assigned_resources().get("GPU", 0))

    @workflow.step(**options)
    def outer() -> Any:
        return deeper.step([os.getpid()])

    @workflow.step(**options)
    def returns_inplace() -> Any:
        return gpus.options(allow_inplace=True, num_cpus=2).step()

    assert len(set(outer.step().run())) == 1
    assert returns_inplace.step().run() == options.get("num_gpus", 0)


def zone(*names: str) -> strategies.NodeLabelSchedulingStrategy:
    return strategies.NodeLabelSchedulingStrategy({"zone": strategies.In(*names)})


@pytest.mark.parametrize(
    ("here", "elsewhere"),
    [
        pytest.param({"label_selector": {"zone": "a"}}, {"label_selector": {"zone": "b"}}, id="label_selector"),
        pytest.param(
            {"label_selector": {"zone": "b"}, "fallback_strategy": [{"label_selector": {"zone": "a"}}]},
            {"label_selector": {"zone": "b"}, "fallback_strategy": [{"label_selector": {"zone": "c"}}]},
            id="fallback_strategy",
        ),
        pytest.param({"accelerator_type": "V100"}, {"accelerator_type": "A100"}, id="accelerator_type"),
        pytest.param(
            {"scheduling_strategy": zone("a", "b")}, {"scheduling_strategy": zone("b", "c")}, id="scheduling_strategy"
        ),
    ],
)
def test_step_waits_until_a_matching_node_exists(
    here: dict[str, Any], elsewhere: dict[str, Any], marks: Marks, wid: str
) -> None:
    """The only node of this Ray is in zone `a` and has an accelerator V100."""

    @workflow.step
    def placed(marks: Marks, place: str) -> dict[str, float]:
        marks.started(place)
        return dict(ray.get_runtime_context().get_assigned_resources())

    placed.options(**elsewhere).step(marks, "elsewhere").run_async(wid)
    for _ in range(3):
        resources = ray.get(placed.options(**here).step(marks, "here").run_async(), timeout=60)
        assert ("accelerator_type:V100" in resources) == ("accelerator_type" in here)
    assert marks.starts() == {"here": 3}
    assert workflow.get_status(wid) is workflow.RUNNING
    workflow.cancel(wid)


def tasks_known_to_ray() -> set[str]:
    """Names of the tasks for which Ray has recorded events."""
    return {event.task_info.name for event in state.state._get_all_task_events()}


def test_disabled_task_events_are_not_recorded() -> None:
    @workflow.step
    def seen(value: int) -> int:
        return value + 1

    @workflow.step(enable_task_events=False)
    def unseen(value: int) -> int:
        return value + 1

    assert seen.step(unseen.step(1)).run() == 3
    until(lambda: any("locals>.seen" in name for name in tasks_known_to_ray()))
    assert not any("locals>.unseen" in name for name in tasks_known_to_ray())


def test_labels_are_passed_to_ray(marks: Marks) -> None:
    assert ray.get(plain.options(_labels={"a": "b"}).step(marks).run_async())
    with pytest.raises(RuntimeError, match="could not be executed by Ray: "):
        plain.options(_labels={"a": 7}).step(marks).run()  # Ray itself refuses labels that are not strings
    assert marks.starts() == {"plain": 1}
