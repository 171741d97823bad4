"""Shared by the scripts of this folder: connects to the Ray that the test chose."""

from __future__ import annotations

import os

import ray

from tests.support.lean_ray import make_lean


def connect() -> None:
    """Connect to the Ray of the test; start a new one if the test gave no address."""
    address = os.environ["TEST_RAY_ADDRESS"]
    if address:
        ray.init(address=address)
    else:
        make_lean()
        ray.init(num_cpus=4, include_dashboard=False, _temp_dir=os.environ["TEST_RAY_FOLDER"])
