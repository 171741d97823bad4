"""Fixtures of all tests. Longer helpers are in tests/support."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("workflow.testing.store_contract")

pytest_plugins = ["tests.support.minio"]


@pytest.fixture(autouse=True)
def _no_aws_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the credentials and the endpoint of the user who runs the tests."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "ENDPOINT_URL", "REGION", "DEFAULT_REGION"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
