"""The options for placement groups of Ray 1.x become one scheduling strategy."""

from __future__ import annotations

from typing import Any

import pytest
import ray
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from workflow import options
from workflow.engine.strategies import encode
from workflow.errors import InvalidInputError
from workflow.model.graph import StepOptions

GROUP = PlacementGroup(ray.PlacementGroupID(b"g" * ray.PlacementGroupID.size()), [{"CPU": 1.0}])


def merged(**given: Any) -> Any:
    return options.merged(given, StepOptions()).ray


@pytest.mark.parametrize(
    ("bundle", "capture"),
    [({}, {}), ({"placement_group_bundle_index": 0}, {"placement_group_capture_child_tasks": True})],
)
def test_placement_group_is_given_as_in_ray_1(bundle: dict[str, Any], capture: dict[str, Any]) -> None:
    strategy = PlacementGroupSchedulingStrategy(GROUP, **bundle, **capture)
    assert merged(placement_group=GROUP, **bundle, **capture) == {"scheduling_strategy": encode(strategy)}


@pytest.mark.parametrize("given", [{"placement_group": "default"}, {"placement_group_bundle_index": -1}])
def test_defaults_of_placement_groups_change_nothing(given: dict[str, Any]) -> None:
    assert merged(**given) == {}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"placement_group": 7}, "placement_group=7: give placement_group=..., as ray.util.placement_group returns"),
        ({"placement_group_bundle_index": 1}, "placement_group_bundle_index: give placement_group=..., as"),
        ({"placement_group": GROUP, "scheduling_strategy": "SPREAD"}, "give only one of them"),
    ],
)
def test_incomplete_placement_is_refused(given: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        merged(**given)
