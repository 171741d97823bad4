"""The reads of a round, field by field."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.operator import build
from tests.unit.operator.build import DEFAULTS, spec, state, workflow
from workflow_operator.api.status import CodeStatus, Phase
from workflow_operator.core import names
from workflow_operator.core.actions import RunRef, StoreRef
from workflow_operator.core.observation import Defaults
from workflow_operator.core.read_plan import ReadPlan, read_plan, store_of, workflow_id_of

STORE = StoreRef("s3://checkpoints/all/team?endpoint=http%3A%2F%2Fminio%3A9000", "store")
RUN = RunRef(STORE, build.ID, 1, names.run_uuid(build.UID, 1), build.UID, 2, "trip")


def test_plan_of_a_new_workflow() -> None:
    assert read_plan(workflow(), DEFAULTS) == ReadPlan(STORE, build.ID, secret="store", namespace=True)


def test_plan_of_a_running_workflow_with_code() -> None:
    code = CodeStatus(config_map="old-code", sha256="abc")
    running = workflow(state(Phase.RUNNING, attempt=2, code=code), spec=spec(code={"configMap": {"name": "new-code"}}))
    assert read_plan(running, DEFAULTS) == ReadPlan(
        store=STORE,
        workflow_id=build.ID,
        staged=RUN,
        code="abc",
        secret="store",
        config_map="new-code",
        cluster=names.cluster_name("trip", build.UID, 2),
        submission=f"rwf-{build.UID}-2",
    )


@pytest.mark.parametrize("invalid", [False, True], ids=["valid spec", "invalid spec"])
def test_plan_without_any_storage(invalid: bool) -> None:
    code = CodeStatus(config_map="trip-code", sha256="abc")
    obj = workflow(state(Phase.PENDING, attempt=0, code=code))
    obj = replace(obj, spec=None) if invalid else obj
    assert read_plan(obj, Defaults()) == ReadPlan(None, build.ID, code="abc", namespace=True)


@pytest.mark.parametrize("phase", Phase, ids=str)
def test_submission_is_read_only_while_it_may_run(phase: Phase) -> None:
    submitted = state(Phase.RUNNING).model_copy(update={"phase": phase})
    expected = phase in (Phase.PROVISIONING, Phase.RUNNING, Phase.CANCELING)
    assert read_plan(workflow(submitted), DEFAULTS).submission == (f"rwf-{build.UID}-1" if expected else "")


def test_recorded_workflow_id_counts_before_that_of_the_spec() -> None:
    given = spec(workflowId="nightly")
    recorded = state(Phase.RUNNING, workflow_id="recorded")
    assert workflow_id_of(workflow(recorded, spec=given)) == "recorded"
    assert workflow_id_of(workflow(spec=given)) == "nightly"
    assert workflow_id_of(workflow(spec=None)) == workflow_id_of(workflow()) == build.ID


STORAGES = {
    "server of its own": (
        {"uri": "s3://mine/x", "endpoint": "http://minio:9000/", "region": "eu-west-1"},
        StoreRef("s3://mine/x/team?endpoint=http%3A%2F%2Fminio%3A9000&region=eu-west-1", ""),
    ),
    "ends with a capital letter": (
        {"uri": "s3://mine/MAX/", "endpoint": "http://MINIO-X/"},
        StoreRef("s3://mine/MAX/team?endpoint=http%3A%2F%2FMINIO-X", ""),
    ),
    "nothing but a bucket": ({"uri": "s3://mine"}, StoreRef("s3://mine/team", "")),
}


@pytest.mark.parametrize(("storage", "expected"), STORAGES.values(), ids=STORAGES)
def test_storage_of_the_spec_takes_nothing_from_the_defaults(storage: dict[str, str], expected: StoreRef) -> None:
    defaults = replace(DEFAULTS, storage_region="us-east-1")
    assert store_of(workflow(spec=spec(storage=storage)), defaults) == expected


def test_default_storage_has_region_and_secret_of_the_operator() -> None:
    defaults = Defaults("s3://all/", storage_region="us-east-1", storage_secret="keys")
    assert store_of(workflow(spec=None), defaults) == StoreRef("s3://all/team?region=us-east-1", "keys")


def test_run_that_was_read_before_is_named_in_the_plan() -> None:
    assert read_plan(workflow(state(Phase.RUNNING, attempt=2, epoch=1)), DEFAULTS).recorded == RUN
    assert read_plan(workflow(state(Phase.RUNNING, attempt=2)), DEFAULTS).recorded is None


@pytest.mark.parametrize("phase", Phase, ids=str)
def test_namespace_is_read_before_an_attempt_and_at_the_end(phase: Phase) -> None:
    obj = workflow(state(phase))
    starts = phase in (Phase.PENDING, Phase.PROVISIONING, Phase.RESUMABLE)
    assert read_plan(obj, DEFAULTS).namespace == starts
    assert read_plan(replace(obj, deleted=1.0), DEFAULTS).namespace
