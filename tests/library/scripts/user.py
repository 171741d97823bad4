"""What the scripts of this folder share: connecting to Ray as the test wants it."""

from __future__ import annotations

import os

import ray

from tests.support.lean_ray import make_lean


def connect() -> None:
    """To the Ray of the test, or to one of its own."""
    address = os.environ["TEST_RAY_ADDRESS"]
    if address:
        ray.init(address=address)
    else:
        make_lean()
        ray.init(num_cpus=4, include_dashboard=False, _temp_dir=os.environ["TEST_RAY_FOLDER"])
