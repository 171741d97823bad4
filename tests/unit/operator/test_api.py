"""Parsing of spec and status, the messages for an invalid spec, and the conversion of the status to JSON."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.operator import build
from workflow_operator.api.base import format_time, parse_time
from workflow_operator.api.parse import parse_spec, parse_status
from workflow_operator.api.spec import RecoveryPolicy
from workflow_operator.api.status import Condition, Phase, WorkflowState, dump_status

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no entrypoint": ({"entrypoint": None}, "spec.entrypoint: "),
    "no module": ({"entrypoint": "book_trip"}, "spec.entrypoint: write module:attribute, for example trip:book_trip"),
    "a shell word": ({"entrypoint": "trip:book; rm"}, "write module:attribute"),
    "a second line": ({"entrypoint": "trip:book\n"}, "write module:attribute"),
    "the library's own name": ({"entrypoint": "workflow:book"}, "spec.entrypoint: rename the module"),
    "no cluster": ({"cluster": {}}, "spec.cluster: set exactly one of template"),
    "two clusters": (
        {"cluster": {**build.SPEC["cluster"], **build.SELECTING["cluster"]}},
        "set exactly one of template",
    ),
    "empty selector": ({"cluster": {"selector": {"matchLabels": {}}}}, "spec.cluster.selector.matchLabels: "),
    "a folder as storage": ({"storage": {"uri": "/data"}}, "spec.storage.uri: write s3://bucket/prefix"),
    "credentials in the uri": ({"storage": {"uri": "s3://b:c@host/x"}}, "spec.storage.uri: write s3://"),
    "a path in the endpoint": ({"storage": {"uri": "s3://abc", "endpoint": "http://a/b"}}, "without a path"),
    "working_dir": ({"runtimeEnv": {"working_dir": "."}}, "spec.runtimeEnv: remove working_dir: the operator sets it"),
    "large runtimeEnv": (
        {"runtimeEnv": {"env_vars": {"A": "x" * 100_000}}},
        "spec.runtimeEnv: it has 100023 bytes as JSON and Ray can pass 100000 to the driver: move large values",
    ),
    "negative resumes": ({"recovery": {"maxResumes": -1}}, "spec.recovery.maxResumes: "),
    "unknown policy": ({"recovery": {"policy": "Never"}}, "spec.recovery.policy: "),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_invalid_field_is_named_with_its_correction(changes: dict[str, Any], message: str) -> None:
    parsed, refusal = parse_spec({**build.SPEC, **changes})
    assert parsed is None
    assert message in refusal


def test_dotted_module_that_looks_like_a_file_is_accepted() -> None:
    parsed, refusal = parse_spec({**build.SPEC, "entrypoint": "trip.py:book"})
    assert parsed is not None
    assert not refusal


def test_minimal_spec_has_the_documented_defaults() -> None:
    spec, refusal = parse_spec(build.SPEC)
    assert not refusal
    assert spec is not None
    assert spec.recovery.policy is RecoveryPolicy.AUTOMATIC
    assert (spec.recovery.max_resumes, spec.recovery.backoff.initial_seconds) == (5, 2)
    assert spec.pre_running_deadline_seconds == 1800


def test_unknown_fields_are_ignored() -> None:
    assert parse_spec({**build.SPEC, "suspend": True})[0] is not None
    assert parse_status({"phase": "Running", "pool": "a"}).phase is Phase.RUNNING


def test_unreadable_status_counts_as_absent() -> None:
    assert parse_status({"phase": "Suspended"}) == WorkflowState()


def test_status_is_unchanged_by_a_json_round_trip() -> None:
    state = build.state(
        Phase.RUNNING,
        conditions=(Condition(type="Running", status="True", reason="Runs", last_transition_time=build.NOW),),
        result='{"deep": [1, null, "x"]}',
    )
    dumped = dump_status(state)
    assert parse_status(dumped) == state
    assert dumped["lastFailure"] is None, "null in a merge patch removes the old value"
    assert None not in dumped["conditions"][0].values()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("2026-11-24T05:30:00Z", 1795498200.0, id="seconds"),
        pytest.param("2026-11-24T05:30:00.25Z", 1795498200.25, id="two digits"),
        pytest.param("2026-11-24T05:30:00.123456789Z", 1795498200.123456, id="nanoseconds"),
        pytest.param("2026-11-24T06:30:00+01:00", 1795498200.0, id="offset"),
    ],
)
def test_rfc_3339_times_are_parsed(text: str, seconds: float) -> None:
    assert parse_time(text) == pytest.approx(seconds, abs=1e-6)


def test_times_round_trip_with_milliseconds() -> None:
    for seconds in (0.0, 1_000_000.001, 1795498200.249, 1795498200.9996):
        assert parse_time(format_time(seconds)) == round(seconds, 3)
