"""Life of a Workflow on a real API server: run, failure, resume, cancel and deletion. KubeRay and Ray are fakes."""

from __future__ import annotations

from tests.operator.harness import TEMPLATE, Harness
from workflow.model.status import WorkflowStatus
from workflow.reading import read_driver_logs
from workflow.store import open_store
from workflow_operator.adapters.kube import CONFIGMAPS, RAYCLUSTERS
from workflow_operator.api.status import Phase
from workflow_operator.core.names import FINALIZER, cluster_name, submission_id

CODE = {"trip__py": "def book(): ...\n"}
FROM_CONFIG_MAP = {"configMap": {"name": "trip-code"}}


async def test_workflow_succeeds(harness: Harness) -> None:
    created = await harness.create(args={"origin": "OAK"})
    harness.manager.allow_all()
    async with harness.reconciling():
        state = await harness.until_phase(Phase.SUCCEEDED)
        await harness.until_clusters()
    assert (state.attempt, state.epoch, state.steps.succeeded, state.resumes.total) == (1, 1, 3, 0)
    assert state.result == '"done"'
    submission = harness.manager.payloads[0]
    assert (submission.entrypoint, submission.uid, submission.attempt) == ("trip:book", created.uid, 1)
    assert harness.manager.arguments == [{"origin": "OAK"}]


async def test_status_shows_progress_of_a_running_workflow(harness: Harness) -> None:
    await harness.create()
    harness.manager.allow(2)
    async with harness.reconciling():
        state = await harness.until(lambda state: state.steps.succeeded == 2)
    assert (state.phase, state.steps.total, state.steps.summary) == (Phase.RUNNING, 3, "2/3")


async def test_run_resumes_on_a_new_cluster_after_head_loss(harness: Harness) -> None:
    created = await harness.create()
    harness.manager.allow(2)
    async with harness.reconciling():
        before = await harness.until(lambda state: state.steps.succeeded == 2)
        await harness.kill_head()
        await harness.until(lambda state: state.resumes.total == 1)
        harness.manager.allow_all()
        state = await harness.until_phase(Phase.SUCCEEDED)
        await harness.until_clusters()
    assert before.cluster is not None
    assert before.cluster.name == cluster_name("trip", created.uid, 1)
    assert (state.attempt, state.epoch, state.steps.succeeded, state.resumes.total) == (2, 2, 3, 1)
    assert state.last_failure is not None
    assert set(harness.manager.started.values()) == {1}, "no committed step ran again"


async def test_failed_workflow_keeps_its_cluster_and_the_output(harness: Harness) -> None:
    created = await harness.create(
        entrypoint="missing:book", cluster={"template": TEMPLATE, "retain": "OnFailure"}, workflowId="trip"
    )
    name = cluster_name("trip", created.uid, 1)
    async with harness.reconciling():
        await harness.until_phase(Phase.FAILED)
        state = await harness.until(lambda state: bool(state.driver_log and state.driver_log.location))
        await harness.until_clusters(name)
        assert state.retained_cluster is not None
        assert (state.retained_cluster.name, state.retained_cluster.attempt) == (name, 1)
        await harness.change(cluster={"retain": "Never"})
        await harness.until_clusters()
        state = await harness.until(lambda state: state.retained_cluster is None)
    store = open_store(f"{harness.settings.storage_uri}/{harness.namespace}")
    assert read_driver_logs(store, "trip") == {submission_id(created.uid, 1): "output of attempt 1\n"}
    assert state.driver_log is not None
    assert state.driver_log.location.endswith(f"/drivers/{submission_id(created.uid, 1)}")


async def test_changed_spec_waits_for_the_next_attempt(harness: Harness) -> None:
    await harness.create()
    harness.manager.allow(1)
    async with harness.reconciling():
        await harness.until(lambda state: state.steps.succeeded == 1)
        await harness.change(runtimeEnv={"env_vars": {"A": "b"}})
        await harness.until_message("SpecApplied", "a change of spec.runtimeEnv: the next attempt")
        await harness.kill_head()
        harness.manager.allow_all()
        state = await harness.until_phase(Phase.SUCCEEDED)
    applied = state.condition("SpecApplied")
    assert applied is not None
    assert applied.status == "True"


async def test_failure_is_reported_by_an_event(harness: Harness) -> None:
    await harness.create(recovery={"policy": "Manual"})
    harness.manager.allow(1)
    async with harness.reconciling():
        await harness.until(lambda state: state.steps.succeeded == 1)
        await harness.kill_head()
        await harness.until_phase(Phase.RESUMABLE)
        await harness.until_event("HeadPodLost")
        await harness.until_clusters()


async def test_failed_driver_is_submitted_again_to_the_same_head(harness: Harness) -> None:
    created = await harness.create()
    harness.manager.allow(1)
    async with harness.reconciling():
        state = await harness.until(lambda state: state.steps.succeeded == 1)
        assert state.cluster is not None
        head = harness.ray.head(harness.namespace, state.cluster.name)
        job = head.jobs[submission_id(created.uid, 1)]
        assert job.task is not None
        job.task.cancel()
        job.status, job.exit_code = "FAILED", 137
        harness.manager.allow_all()
        await harness.until_phase(Phase.SUCCEEDED)
    assert head.posts == [submission_id(created.uid, 1), submission_id(created.uid, 2)]


async def test_every_resume_uses_the_code_stored_with_the_run(harness: Harness) -> None:
    await harness.config_map(**CODE)
    await harness.create(code=FROM_CONFIG_MAP)
    harness.manager.allow(1)
    async with harness.reconciling():
        before = await harness.until(lambda state: state.steps.succeeded == 1)
        edit = {"data": {"trip.py": "def book(): raise RuntimeError\n"}}
        await harness.kube.patch(CONFIGMAPS, harness.namespace, "trip-code", edit)
        await harness.kill_head()
        harness.manager.allow_all()
        await harness.until_phase(Phase.SUCCEEDED)
    assert before.code is not None
    assert [submission.code for submission in harness.manager.payloads] == [before.code.sha256] * 2


async def test_workflow_waits_for_a_missing_config_map(harness: Harness) -> None:
    await harness.create(code=FROM_CONFIG_MAP)
    harness.manager.allow_all()
    async with harness.reconciling():
        state = await harness.until_message("Reconciling", "trip-code")
        assert (state.phase, await harness.clusters()) == (Phase.PENDING, [])
        await harness.config_map(**CODE)
        await harness.until_phase(Phase.SUCCEEDED)


async def test_selected_cluster_is_used_and_not_deleted(harness: Harness) -> None:
    labels = {"team": "red"}
    spec = {**TEMPLATE["spec"], "authOptions": {"mode": "token"}}
    body = {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": "ours", "labels": labels},
        "spec": spec,
    }
    await harness.kube.create(RAYCLUSTERS, harness.namespace, body)
    await harness.create(cluster={"selector": {"matchLabels": labels}})
    harness.manager.allow_all()
    async with harness.reconciling():
        state = await harness.until_phase(Phase.SUCCEEDED)
    assert state.attempt == 1
    assert await harness.clusters() == ["ours"]
    assert len(harness.ray.head(harness.namespace, "ours").posts) == 1


async def test_cancel_ends_the_run_and_deletes_the_cluster(harness: Harness) -> None:
    created = await harness.create()
    harness.manager.allow(1)
    async with harness.reconciling():
        state = await harness.until(lambda state: state.steps.succeeded == 1)
        await harness.change(cancel=True)
        await harness.until_phase(Phase.CANCELED)
        await harness.until_clusters()
    view = harness.run(state.workflow_id)
    assert view is not None
    assert (view.status, view.owner and view.owner.uid) == (WorkflowStatus.CANCELED, created.uid)


async def test_cancel_without_a_cluster_writes_to_the_log(harness: Harness) -> None:
    await harness.create(recovery={"policy": "Manual"})
    harness.manager.allow(1)
    async with harness.reconciling():
        await harness.until(lambda state: state.steps.succeeded == 1)
        await harness.kill_head()
        state = await harness.until_phase(Phase.RESUMABLE)
        await harness.change(cancel=True)
        await harness.until_phase(Phase.CANCELED)
    view = harness.run(state.workflow_id)
    assert view is not None
    assert (view.status, view.epoch) == (WorkflowStatus.CANCELED, 2)


async def test_deletion_ends_the_run_and_deletes_the_cluster(harness: Harness) -> None:
    await harness.create()
    harness.manager.allow(1)
    async with harness.reconciling():
        state = await harness.until(lambda state: state.steps.succeeded == 1)
        workflow = await harness.workflow()
        assert workflow is not None
        assert FINALIZER in workflow.finalizers
        await harness.delete()
        await harness.until_gone()
        await harness.until_clusters()
    view = harness.run(state.workflow_id)
    assert view is not None
    assert view.status is WorkflowStatus.CANCELED


async def test_recreated_workflow_with_same_id_does_not_run_again(harness: Harness) -> None:
    await harness.create(workflowId="nightly")
    harness.manager.allow_all()
    async with harness.reconciling():
        await harness.until_phase(Phase.SUCCEEDED)
        await harness.delete()
        await harness.until_gone()
        await harness.create(workflowId="nightly")
        state = await harness.until_phase(Phase.SUCCEEDED)
    assert (state.attempt, len(harness.manager.payloads)) == (0, 1)
    assert state.result == '"done"'


async def test_recreated_workflow_resumes_the_released_run(harness: Harness) -> None:
    await harness.create(workflowId="nightly")
    harness.manager.allow(1)
    async with harness.reconciling():
        await harness.until(lambda state: state.steps.succeeded == 1)
        await harness.delete()
        await harness.until_gone()
        harness.manager.allow_all()
        await harness.create(workflowId="nightly")
        state = await harness.until_phase(Phase.SUCCEEDED)
    assert state.steps.succeeded == 3
    assert set(harness.manager.started.values()) == {1}
