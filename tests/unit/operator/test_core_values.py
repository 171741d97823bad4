"""The small pure parts: the table of phases, conditions, backoff, the payload of a submission, what to ask in a
round."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.operator import build
from tests.unit.operator.build import DEFAULTS, HEAD, NOW, cluster, head, spec, state, workflow
from workflow_operator.api.spec import Backoff
from workflow_operator.api.status import CodeStatus, Phase
from workflow_operator.core.actions import HeadRef, RunRef, StoreRef
from workflow_operator.core.backoff import delay
from workflow_operator.core.conditions import TEXT_LIMIT, Note, clip, conditions
from workflow_operator.core.decide import PHASES
from workflow_operator.core.observation import Defaults
from workflow_operator.core.read_plan import head_to_ask, read_plan, store_of
from workflow_operator.core.state import LIVE, TERMINAL, TRANSITIONS, Event, diagram, move
from workflow_operator.core.submission import submit

LIFECYCLE = Path(__file__).parents[3] / "docs" / "lifecycle.md"


def test_the_picture_in_the_docs_is_the_table() -> None:
    assert f"```mermaid\n{diagram()}```" in LIFECYCLE.read_text(encoding="utf-8")


def test_every_phase_has_its_function_and_its_way_out() -> None:
    assert set(PHASES) == set(Phase) == {*LIVE, *TERMINAL}
    assert {phase for phase, _ in TRANSITIONS} == set(LIVE)


def test_every_phase_can_be_reached() -> None:
    reached = {Phase.PENDING}
    for _ in Phase:
        reached |= {target for (source, _), target in TRANSITIONS.items() if source in reached}
    assert reached == set(Phase)


def test_an_event_that_is_not_in_the_table_is_a_bug() -> None:
    with pytest.raises(KeyError):
        move(state(Phase.SUCCEEDED), Event.ATTEMPT_BEGAN, NOW)


@pytest.mark.parametrize(
    ("without_progress", "seconds"), [(0, 2), (1, 2), (2, 4), (3, 8), (7, 120), (10**9, 120)], ids=str
)
def test_backoff_doubles_up_to_its_limit(without_progress: int, seconds: float) -> None:
    assert delay(Backoff(), without_progress) == seconds


def test_conditions_keep_the_time_of_what_did_not_change() -> None:
    first = state(Phase.RUNNING)
    first = first.model_copy(update={"conditions": conditions(first, Note("Runs", "well"), 1, NOW)})
    later = {item.type: item for item in conditions(first, Note("Silent", "no answer", blocked=True), 2, NOW + 9)}
    assert later["Running"].last_transition_time == NOW
    assert later["Running"].observed_generation == 2
    assert later["Reconciling"].reason == "Silent"


KSTATUS = {
    "in progress": (Phase.RUNNING, Note("Runs", ""), {"Reconciling": "True", "Stalled": "False"}),
    "waits for somebody": (Phase.PENDING, Note("No", "", True, True), {"Reconciling": "False", "Stalled": "True"}),
    "succeeded": (Phase.SUCCEEDED, Note("Ok", ""), {"Reconciling": "False", "Stalled": "False", "Succeeded": "True"}),
    "failed": (Phase.FAILED, Note("Bad", ""), {"Reconciling": "False", "Stalled": "True", "Failed": "True"}),
    "canceled": (Phase.CANCELED, Note("C", ""), {"Reconciling": "False", "Stalled": "False", "Canceled": "True"}),
}


@pytest.mark.parametrize(("phase", "note", "expected"), KSTATUS.values(), ids=KSTATUS.keys())
def test_conditions_are_what_kstatus_reads(phase: Phase, note: Note, expected: dict[str, str]) -> None:
    said = {item.type: item.status for item in conditions(state(phase), note, 1, NOW)}
    assert said.items() >= expected.items()
    assert {str(phase) for phase in TERMINAL} & said.keys() == ({str(phase)} if phase in TERMINAL else set())


def test_a_long_text_keeps_its_end() -> None:
    clipped = clip("a" * TEXT_LIMIT + "ValueError: no seat")
    assert len(clipped) == TEXT_LIMIT
    assert clipped.endswith("ValueError: no seat")


def test_the_payload_is_what_the_entrypoint_reads() -> None:
    run = RunRef(StoreRef("s3://b/team", "store"), build.ID, 2, "run-2", build.UID, 3, "trip")
    posted = submit(spec(args={"origin": "it's"}), run, HeadRef("c", HEAD, "198.18.0.5", "c"), "rwf-1", "abc")
    program, payload = shlex.split(posted.entrypoint)[:3], json.loads(shlex.split(posted.entrypoint)[3])
    assert program == ["python", "-m", "workflow.entrypoint"]
    assert payload == {
        "entrypoint": "trip:book_trip",
        "args": {"origin": "it's"},
        "workflowId": build.ID,
        "runNumber": 2,
        "runUuid": "run-2",
        "uid": build.UID,
        "attempt": 3,
        "store": "s3://b/team",
        "code": "abc",
        "maxResumes": 5,
        "managerUnresponsiveSeconds": 60,
        "metadata": {},
    }


def test_one_root_a_namespace() -> None:
    own = spec(storage={"uri": "s3://mine/x/", "region": "us-east-1", "secretRef": {"name": "keys"}})
    assert store_of(workflow(spec=own), DEFAULTS) == StoreRef("s3://mine/x/team?region=us-east-1", "keys")
    default = StoreRef("s3://checkpoints/all/team?endpoint=http%3A%2F%2Fminio%3A9000", "store")
    assert store_of(workflow(), DEFAULTS) == default
    assert store_of(workflow(), Defaults()) is None


def test_a_storage_once_chosen_stays() -> None:
    begun = workflow(state(Phase.RUNNING, storage="s3://old/team", secret_name="old"))
    assert store_of(begun, DEFAULTS) == StoreRef("s3://old/team", "old")


def test_a_round_asks_only_what_its_phase_needs() -> None:
    fresh = read_plan(workflow(), DEFAULTS)
    assert (fresh.workflow_id, fresh.cluster, fresh.submission, fresh.staged) == (build.ID, "", "", None)
    code = CodeStatus(config_map="trip-code", sha256="abc")
    later = read_plan(workflow(state(Phase.RUNNING, code=code)), DEFAULTS)
    assert (later.cluster, later.submission) == (build.ATTEMPT_NAME, f"rwf-{build.UID}-1")
    assert later.staged is not None
    assert (later.staged.run_number, later.code) == (1, "abc")


def test_candidates_are_asked_for_only_while_none_is_chosen() -> None:
    selecting = spec(build.SELECTING)
    assert read_plan(workflow(spec=selecting), DEFAULTS).selector == {"pool": "a"}
    assert read_plan(workflow(state(Phase.RUNNING), spec=selecting), DEFAULTS).selector == {}


def test_only_the_head_that_status_names_is_asked() -> None:
    running = workflow(state(Phase.RUNNING))
    assert head_to_ask(running, cluster()) == HeadRef(build.ATTEMPT_NAME, HEAD, "198.18.0.5", build.ATTEMPT_NAME)
    other = HEAD.model_copy(update={"container_id": "containerd://9"})
    gone = [None, head(identity=other), head(running=False), head(deleting=True), head(ip="")]
    assert [head_to_ask(running, replace(cluster(), head=one)) for one in gone] == [None] * 5


def test_reasons_in_the_table_of_events_are_words() -> None:
    assert all(re.fullmatch(r"[\w ,']+", event.value) for event in Event)
