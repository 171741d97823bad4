"""The tests whose behavior depends on the store, on a real MinIO. Here `storage` is a bucket, not a folder."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import workflow
from dev.minio_server import MinioServer
from tests.library.test_basics_dynamic import test_recursive_factorial, test_trip_steps_run_in_the_documented_order
from tests.library.test_basics_errors import (
    test_caught_exception_is_the_users_own,
    test_only_run_and_resume_repeat_the_failed_step,
    test_resume_runs_the_failed_step_and_no_committed_one,
    test_step_that_raises_makes_the_workflow_failed,
    test_unpicklable_exception_is_raised_as_text,
)
from tests.library.test_checkpoint import (
    test_ephemeral_value_reaches_consumers_and_is_not_stored,
    test_get_output_of_an_ephemeral_step_is_refused,
    test_resume_repeats_only_ephemeral_steps_it_needs,
    test_value_of_the_workflow_is_stored_without_checkpoint,
)
from tests.library.test_management import (
    test_another_dag_under_a_used_id_is_refused,
    test_any_text_can_be_a_workflow_id,
    test_cancel_stops_running_steps_and_is_final,
    test_delete_frees_the_id_and_keeps_registry_entries,
    test_get_output_of_a_committed_step_returns_at_once,
    test_get_output_returns_value_of_workflow_or_step,
    test_list_all_returns_each_workflow_with_its_status,
    test_run_of_a_finished_workflow_returns_the_stored_value,
    test_unknown_id_is_not_found_and_writes_nothing,
)
from tests.library.test_nested import test_resume_keeps_outcomes_of_nested_workflows
from tests.library.test_surface_management import (
    test_conflicting_index_entries_are_resolved_from_the_log,
    test_metadata_of_a_workflow_and_of_a_step,
    test_resume_all_resumes_failed_workflows_on_request,
)
from tests.support.minio import client_of
from tests.support.ray_fixtures import CREDENTIALS, end_managers
from workflow.store import Store

__all__ = [
    "test_another_dag_under_a_used_id_is_refused",
    "test_any_text_can_be_a_workflow_id",
    "test_cancel_stops_running_steps_and_is_final",
    "test_caught_exception_is_the_users_own",
    "test_conflicting_index_entries_are_resolved_from_the_log",
    "test_delete_frees_the_id_and_keeps_registry_entries",
    "test_ephemeral_value_reaches_consumers_and_is_not_stored",
    "test_get_output_of_a_committed_step_returns_at_once",
    "test_get_output_of_an_ephemeral_step_is_refused",
    "test_get_output_returns_value_of_workflow_or_step",
    "test_list_all_returns_each_workflow_with_its_status",
    "test_metadata_of_a_workflow_and_of_a_step",
    "test_only_run_and_resume_repeat_the_failed_step",
    "test_recursive_factorial",
    "test_resume_all_resumes_failed_workflows_on_request",
    "test_resume_keeps_outcomes_of_nested_workflows",
    "test_resume_repeats_only_ephemeral_steps_it_needs",
    "test_resume_runs_the_failed_step_and_no_committed_one",
    "test_run_of_a_finished_workflow_returns_the_stored_value",
    "test_step_that_raises_makes_the_workflow_failed",
    "test_trip_steps_run_in_the_documented_order",
    "test_unknown_id_is_not_found_and_writes_nothing",
    "test_unpicklable_exception_is_raised_as_text",
    "test_value_of_the_workflow_is_stored_without_checkpoint",
]

pytestmark = pytest.mark.usefixtures("storage")


@pytest.fixture(scope="module")
def storage(ray_here: None, minio_server: MinioServer) -> Iterator[str]:
    """A new bucket. Its credentials are in the profile that all processes of this Ray use."""
    bucket = f"test-{uuid.uuid4().hex}"
    client_of(minio_server).make_bucket(bucket)
    Path(CREDENTIALS).write_text(
        f"[default]\naws_access_key_id = {minio_server.access_key}\naws_secret_access_key = {minio_server.secret_key}\n"
    )
    url = f"s3://{bucket}/flows?endpoint={minio_server.endpoint}"
    workflow.init(url)
    yield url
    end_managers()
    Path(CREDENTIALS).unlink()


@workflow.step
def large() -> bytes:
    return b"x" * 9_000_000


@workflow.step
def size(data: bytes) -> int:
    return len(data)


def test_large_value_in_several_blocks_is_read_whole(wid: str, store: Store) -> None:
    assert size.step(large.step()).run(wid) == 9_000_000
    assert any(info.size > 8_000_000 for info in store.list(f"workflows/{wid}/"))
    workflow.delete(wid)
    assert not any(info.size > 8_000_000 for info in store.list(f"workflows/{wid}/"))
