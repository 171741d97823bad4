"""The name of a manager differs for each driver and each environment, so that no workers with other code are shared."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray

from workflow.engine.driver import discovery, user_code


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Ray reports about this process; a test may change it."""
    reported = {"job": "01000000", "runtime_env": {"env_vars": {"A": "1"}, "pip": ["x"]}}
    monkeypatch.setattr(
        ray,
        "get_runtime_context",
        lambda: SimpleNamespace(get_job_id=lambda: reported["job"], runtime_env=reported["runtime_env"]),
    )
    monkeypatch.setattr(user_code, "loaded_code", lambda modules: ["/shop.py 1"])
    return reported


def test_fingerprint_is_equal_within_a_driver(environment: dict[str, Any]) -> None:
    before = discovery.fingerprint("/store")
    environment["runtime_env"] = {"pip": ["x"], "env_vars": {"A": "1"}}  # in another order
    assert discovery.fingerprint("/store") == before


def test_another_driver_has_another_manager(environment: dict[str, Any]) -> None:
    before = discovery.fingerprint("/store")
    environment["job"] = "02000000"
    assert discovery.fingerprint("/store") != before


def test_another_environment_has_another_manager(environment: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    found = [discovery.fingerprint("/store"), discovery.fingerprint("/other")]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    found.append(discovery.fingerprint("/store"))
    environment["runtime_env"] = {"env_vars": {"A": "2"}}
    found.append(discovery.fingerprint("/store"))
    monkeypatch.setattr(user_code, "loaded_code", lambda modules: ["/shop.py 2"])
    found.append(discovery.fingerprint("/store"))
    assert len(set(found)) == 5
