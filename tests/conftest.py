"""Fixtures of all tests. What needs more than a line lives in tests/support."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("workflow.testing.store_contract")

pytest_plugins = ["tests.support.minio"]


@pytest.fixture(autouse=True)
def _no_store_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the credentials or the endpoint of whoever runs it."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "ENDPOINT_URL", "REGION", "DEFAULT_REGION"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
