"""Settings from environment variables and command-line flags."""

from __future__ import annotations

import pytest

from workflow_operator.settings import read_settings


def test_defaults_serve_the_whole_cluster() -> None:
    settings = read_settings({}, [])
    assert (settings.namespaces, settings.leader_election, settings.head_address) == ((), True, "http://{ip}:8265")


def test_unknown_variables_are_ignored() -> None:
    assert read_settings({"PATH": "/bin", "RAYWORKFLOW_OPERATOR_PORT": "tcp://1.2.3.4:80"}, []).port == 8080


def test_flags_override_variables() -> None:
    given = {
        "RAYWORKFLOW_NAMESPACES": "red, blue,",
        "RAYWORKFLOW_STORAGE_URI": "s3://b",
        "RAYWORKFLOW_POLL_SECONDS": "3",
    }
    settings = read_settings(given, [])
    assert (settings.namespaces, settings.defaults.storage_uri, settings.poll_seconds) == (("red", "blue"), "s3://b", 3)
    assert read_settings(given, ["--namespace", "green"]).namespaces == ("green",)


@pytest.mark.parametrize(
    ("name", "value"),
    [("RAYWORKFLOW_POLL_SECONDS", "0"), ("RAYWORKFLOW_PORT", "many"), ("RAYWORKFLOW_LOG_LEVEL", "loud")],
)
def test_invalid_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(SystemExit, match=name):
        read_settings({name: value}, [])
