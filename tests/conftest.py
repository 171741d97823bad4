"""Fixtures of all tests. Longer helpers are in tests/support."""

from __future__ import annotations

import pytest

from workflow.store.credentials import SETTINGS

pytest.register_assert_rewrite("workflow.testing.store_contract")

pytest_plugins = ["tests.support.minio"]


@pytest.fixture(autouse=True)
def _no_aws_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the credentials and the endpoint of the user who runs the tests."""
    for name in (*SETTINGS, "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        if name != "AWS_SHARED_CREDENTIALS_FILE":  # the tests that run on S3 set it for their Ray
            monkeypatch.delenv(name, raising=False)
