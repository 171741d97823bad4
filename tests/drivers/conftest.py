"""The fixtures of tests that start drivers, and kill them, their Ray and its nodes."""

from __future__ import annotations

from tests.support.ray_fixtures import folder, marks, ray_here, ray_outside, storage, store, wid

__all__ = ["folder", "marks", "ray_here", "ray_outside", "storage", "store", "wid"]
