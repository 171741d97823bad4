"""The small pure modules: transitions, conditions, backoff, the payload of a submission, and the read plan."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.unit.operator import build
from tests.unit.operator.build import DEFAULTS, HEAD, NOW, cluster, head, spec, state, workflow
from workflow_operator.api.spec import Backoff
from workflow_operator.api.status import CodeStatus, Phase
from workflow_operator.core.actions import HeadRef, RunRef, StoreRef
from workflow_operator.core.backoff import delay
from workflow_operator.core.conditions import Explanation, conditions
from workflow_operator.core.decide import PHASES
from workflow_operator.core.observation import Defaults
from workflow_operator.core.read_plan import head_to_query, read_plan, store_of
from workflow_operator.core.state import LIVE, TERMINAL, TRANSITIONS, Event, diagram, move
from workflow_operator.core.submission import submit
from workflow_operator.core.texts import TEXT_LIMIT, clip
from workflow_operator.settings import Settings

ROOT = Path(__file__).parents[3]
LIFECYCLE = ROOT / "docs" / "lifecycle.md"


def test_diagram_in_the_documentation_equals_the_table() -> None:
    assert f"```mermaid\n{diagram()}```" in LIFECYCLE.read_text(encoding="utf-8")


def test_every_phase_has_a_function_and_live_ones_transitions() -> None:
    assert set(PHASES) == set(Phase) == {*LIVE, *TERMINAL}
    assert {phase for phase, _ in TRANSITIONS} == set(LIVE)


def test_every_phase_can_be_reached() -> None:
    reached = {Phase.PENDING}
    for _ in Phase:
        reached |= {target for (source, _), target in TRANSITIONS.items() if source in reached}
    assert reached == set(Phase)


def test_event_without_a_transition_raises_key_error() -> None:
    with pytest.raises(KeyError):
        move(state(Phase.SUCCEEDED), Event.ATTEMPT_STARTED, NOW)


@pytest.mark.parametrize(
    ("without_progress", "seconds"), [(0, 2), (1, 2), (2, 4), (3, 8), (7, 120), (10**9, 120)], ids=str
)
def test_backoff_doubles_up_to_its_limit(without_progress: int, seconds: float) -> None:
    assert delay(Backoff(), without_progress) == seconds


def test_unchanged_conditions_keep_their_transition_time() -> None:
    first = state(Phase.RUNNING)
    first = first.model_copy(update={"conditions": conditions(first, Explanation("SubmissionRunning", "runs"), 1, NOW)})
    later = {
        item.type: item
        for item in conditions(first, Explanation("HeadUnreachable", "no answer", blocked=True), 2, NOW + 9)
    }
    assert later["Running"].last_transition_time == NOW
    assert later["Running"].observed_generation == 2
    assert later["Reconciling"].reason == "HeadUnreachable"


KSTATUS = {
    "in progress": (Phase.RUNNING, Explanation("Runs", ""), {"Reconciling": "True", "Stalled": "False"}),
    "waits for the user": (
        Phase.PENDING,
        Explanation("No", "", True, True),
        {"Reconciling": "False", "Stalled": "True"},
    ),
    "succeeded": (
        Phase.SUCCEEDED,
        Explanation("Ok", ""),
        {"Reconciling": "False", "Stalled": "False", "Succeeded": "True"},
    ),
    "failed": (Phase.FAILED, Explanation("Bad", ""), {"Reconciling": "False", "Stalled": "True", "Failed": "True"}),
    "canceled": (
        Phase.CANCELED,
        Explanation("C", ""),
        {"Reconciling": "False", "Stalled": "False", "Canceled": "True"},
    ),
}


@pytest.mark.parametrize(("phase", "explanation", "expected"), KSTATUS.values(), ids=KSTATUS.keys())
def test_conditions_follow_kstatus(phase: Phase, explanation: Explanation, expected: dict[str, str]) -> None:
    statuses = {item.type: item.status for item in conditions(state(phase), explanation, 1, NOW)}
    assert statuses.items() >= expected.items()
    assert {str(phase) for phase in TERMINAL} & statuses.keys() == ({str(phase)} if phase in TERMINAL else set())


def test_clip_keeps_the_end_of_a_long_text() -> None:
    clipped = clip("a" * TEXT_LIMIT + "ValueError: no seat")
    assert len(clipped) == TEXT_LIMIT
    assert clipped.endswith("ValueError: no seat")


def test_submission_has_the_payload_of_the_entrypoint() -> None:
    run = RunRef(StoreRef("s3://b/team", "store"), build.ID, 2, "run-2", build.UID, 3, "trip")
    posted = submit(spec(args={"origin": "it's"}), run, HeadRef("c", HEAD, "198.18.0.5", "c"), "rwf-1", "abc")
    program, payload = shlex.split(posted.entrypoint)[:3], json.loads(shlex.split(posted.entrypoint)[3])
    assert program == ["python", "-m", "workflow.entrypoint"]
    assert payload == {
        "entrypoint": "trip:book_trip",
        "args": hashlib.sha256(b'{"origin":"it\'s"}').hexdigest(),
        "workflowId": build.ID,
        "runNumber": 2,
        "runUuid": "run-2",
        "uid": build.UID,
        "attempt": 3,
        "store": "s3://b/team",
        "code": "abc",
        "maxResumes": 105,
        "managerUnresponsiveSeconds": 60,
        "metadata": {},
        "runExists": False,
    }


def test_each_namespace_has_its_own_root() -> None:
    own = spec(storage={"uri": "s3://mine/x/", "region": "us-east-1", "secretRef": {"name": "keys"}})
    assert store_of(workflow(spec=own), DEFAULTS) == StoreRef("s3://mine/x/team?region=us-east-1", "keys")
    default = StoreRef("s3://checkpoints/all/team?endpoint=http%3A%2F%2Fminio%3A9000", "store")
    assert store_of(workflow(), DEFAULTS) == default
    assert store_of(workflow(), Defaults()) is None


def test_recorded_storage_does_not_change() -> None:
    started = workflow(state(Phase.RUNNING, storage="s3://old/team", secret_name="old"))
    assert store_of(started, DEFAULTS) == StoreRef("s3://old/team", "old")


def test_read_plan_contains_only_what_the_phase_needs() -> None:
    first = read_plan(workflow(), DEFAULTS)
    assert (first.workflow_id, first.cluster, first.submission, first.staged) == (build.ID, "", "", None)
    code = CodeStatus(config_map="trip-code", sha256="abc")
    later = read_plan(workflow(state(Phase.RUNNING, code=code)), DEFAULTS)
    assert (later.cluster, later.submission) == (build.ATTEMPT_NAME, f"rwf-{build.UID}-1")
    assert later.staged is not None
    assert (later.staged.run_number, later.code) == (1, "abc")


def test_candidates_are_read_only_until_one_is_selected() -> None:
    selecting = spec(build.SELECTING)
    assert read_plan(workflow(spec=selecting), DEFAULTS).selector == {"pool": "a"}
    assert read_plan(workflow(state(Phase.RUNNING), spec=selecting), DEFAULTS).selector == {}


def test_only_the_recorded_head_is_queried() -> None:
    running = workflow(state(Phase.RUNNING))
    assert head_to_query(running, cluster()) == HeadRef(build.ATTEMPT_NAME, HEAD, "198.18.0.5", build.ATTEMPT_NAME)
    other = HEAD.model_copy(update={"container_id": "containerd://9"})
    lost_heads = [None, head(identity=other), head(running=False), head(deleting=True), head(ip="")]
    assert [head_to_query(running, replace(cluster(), head=lost)) for lost in lost_heads] == [None] * 5


def test_default_poll_interval_equals_that_of_the_chart() -> None:
    values = yaml.safe_load((ROOT / "charts" / "rayworkflow" / "values.yaml").read_text(encoding="utf-8"))
    assert values["pollSeconds"] == Defaults().poll_seconds == Settings().poll_seconds


def test_event_labels_are_valid_in_mermaid() -> None:
    assert all(re.fullmatch(r"[\w ,']+", event.value) for event in Event)
