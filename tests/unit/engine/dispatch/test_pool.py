"""Which options let a worker execute several steps, and which end its process."""

from __future__ import annotations

from typing import Any

import pytest

from workflow.engine.dispatch.pool import Pool, ends_process

ACCELERATORS = frozenset({"GPU", "TPU", "neuron_cores"})


@pytest.mark.parametrize(
    ("options", "ends", "reusable"),
    [
        ({}, False, True),
        ({"num_cpus": 2, "label_selector": {"zone": "a"}}, False, True),
        ({"num_gpus": 1}, True, False),
        ({"num_gpus": 0.25}, True, False),
        ({"num_gpus": 0}, False, False),
        ({"num_gpus": 1, "max_calls": 0}, False, False),
        ({"num_gpus": 1, "max_calls": 1}, True, False),
        ({"resources": {"TPU": 4}}, True, False),
        ({"resources": {"neuron_cores": 0.5}}, True, False),
        ({"resources": {"TPU": 0}}, False, False),
        ({"resources": {"special": 1}}, False, False),
        ({"resources": {}}, False, False),
        ({"memory": 1000}, False, False),
        ({"accelerator_type": "V100"}, False, False),
        ({"max_calls": 1}, True, False),
        ({"max_calls": 0}, False, True),
        ({"runtime_env": {"env_vars": {"A": "1"}}}, False, True),
        ({"runtime_env": {"nsight": "default"}}, True, False),
        ({"runtime_env": {"rocprof-sys": {"env": {}}}}, True, False),
    ],
    ids=str,
)
def test_options_decide_how_long_a_process_lives(options: dict[str, Any], ends: bool, reusable: bool) -> None:
    assert ends_process(options, ACCELERATORS) is ends
    assert Pool(options).is_reusable is reusable
