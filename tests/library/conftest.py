"""The fixtures of tests that run workflows in a Ray of this process."""

from __future__ import annotations

from tests.support.ray_fixtures import folder, marks, ray_here, ray_outside, storage, store, wid

__all__ = ["folder", "marks", "ray_here", "ray_outside", "storage", "store", "wid"]
