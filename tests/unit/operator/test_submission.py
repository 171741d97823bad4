"""Operator and entrypoint agree: the command line is read back field by field, and every exit code is handled."""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.operator import build
from tests.unit.operator.build import HEAD, NOW, job, read, running, spec, state, view, workflow
from tests.unit.operator.cases import OTHER, Case, J, W, check
from workflow.errors import InvalidInputError
from workflow.submission import PROGRAM, ExitCode, Refusal, Submission, decode_args, encode_args
from workflow_operator.api.status import Phase
from workflow_operator.core.actions import DeleteCluster, HeadRef, RunRef, StoreRef, SubmitRun
from workflow_operator.core.decide import decide
from workflow_operator.core.read_plan import run_of
from workflow_operator.core.submission import stage_args, submit

TEXTS = st.text(min_size=1, max_size=20)
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
SUBMISSIONS = st.builds(
    Submission,
    entrypoint=st.from_regex(r"[a-v][a-z_]{0,8}(\.[a-z]{1,8})?:[a-z_]{1,8}(\.[a-z]{1,8})?", fullmatch=True),
    args=st.just("") | st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    workflow_id=TEXTS,
    run_number=st.integers(1, 10**9),
    run_uuid=TEXTS,
    uid=TEXTS,
    attempt=st.integers(1, 10**6),
    store=TEXTS,
    code=st.just("") | st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    max_resumes=st.integers(0, 1000),
    manager_unresponsive_seconds=st.integers(5, 3600),
    metadata=st.just({}),
)
ARGS = st.dictionaries(st.text(max_size=10), JSON_VALUES, max_size=4)
FIELDS = [field.name for field in dataclasses.fields(Submission)]


def build_run() -> RunRef:
    return run_of(workflow(state(Phase.RUNNING)), StoreRef("s3://b", "store"))


@given(expected=SUBMISSIONS, args=ARGS)
def test_entrypoint_reads_every_field_that_the_operator_writes(expected: Submission, args: dict[str, Any]) -> None:
    expected = dataclasses.replace(expected, args=hashlib.sha256(encode_args(args)).hexdigest() if args else "")
    written = spec(
        entrypoint=expected.entrypoint,
        args=args,
        recovery={"maxResumes": expected.max_resumes, "maxDisruptions": 0},
        managerUnresponsiveSeconds=expected.manager_unresponsive_seconds,
    )
    run = RunRef(
        store=StoreRef(expected.store, "store"),
        workflow_id=expected.workflow_id,
        run_number=expected.run_number,
        run_uuid=expected.run_uuid,
        uid=expected.uid,
        attempt=expected.attempt,
        name="trip",
    )
    posted = submit(written, run, HeadRef("c", HEAD, "198.18.0.5", "c"), "rwf-1", expected.code)
    *program, text = shlex.split(posted.entrypoint)
    assert tuple(program) == PROGRAM
    received = Submission.parse(text)
    for field in FIELDS:
        assert getattr(received, field) == getattr(expected, field), field


@given(args=ARGS)
def test_stored_arguments_are_read_back(args: dict[str, Any]) -> None:
    run = build_run()
    (*staged,) = stage_args(spec(args=args), run)
    assert [decode_args(action.data) for action in staged] == ([args] if args else [])
    posted = submit(spec(args=args), run, HeadRef("c", HEAD, "198.18.0.5", "c"), "rwf-1", "")
    named = Submission.parse(shlex.split(posted.entrypoint)[-1]).args
    assert named == (hashlib.sha256(staged[0].data).hexdigest() if args else "")


def test_command_line_contains_no_argument() -> None:
    args = {"password": "hidden", "table": "ü" * 500_000}
    posted = submit(spec(args=args), build_run(), HeadRef("c", HEAD, "198.18.0.5", "c"), "rwf-1", "")
    visible = f"{posted.entrypoint} {posted.metadata}"
    assert "hidden" not in visible
    assert len(visible) < 2_000
    assert "hidden" not in repr(stage_args(spec(args=args), build_run()))


@given(sent=SUBMISSIONS, metadata=st.dictionaries(st.text(max_size=10), JSON_VALUES, max_size=4))
def test_parse_returns_what_to_json_wrote(sent: Submission, metadata: dict[str, Any]) -> None:
    sent = dataclasses.replace(sent, metadata=metadata)
    assert Submission.parse(sent.to_json()) == sent


@pytest.mark.parametrize("missing", FIELDS)
def test_parse_refuses_a_submission_without_a_field(missing: str) -> None:
    complete = Submission("a:b", "", "w", 1, "r", "u", 1, "s3://b", "", 5, 60, {})
    key = "".join(part.capitalize() if index else part for index, part in enumerate(missing.split("_")))
    with pytest.raises(InvalidInputError, match=key):
        Submission.parse(complete.to_json().replace(f'"{key}":', '"unknown":', 1))


@pytest.mark.parametrize("text", ["", "[]", "null", "trip:book_trip"])
def test_parse_refuses_text_that_is_no_json_object(text: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot read the submission"):
        Submission.parse(text)


AFTER_EXIT = {
    ExitCode.FINISHED: Case(
        running(submission=job(J.SUCCEEDED, ExitCode.FINISHED), run=read(view(W.SUCCESSFUL, result_text="42"))),
        Phase.SUCCEEDED,
        "Succeeded",
        (DeleteCluster,),
    ),
    ExitCode.CRASHED: Case(
        running(submission=job(J.FAILED, ExitCode.CRASHED)), Phase.RESUMABLE, "SubmissionFailed", message="exit code 1"
    ),
    ExitCode.SUPERSEDED: Case(
        running(submission=job(J.FAILED, ExitCode.SUPERSEDED)), Phase.RESUMABLE, "SubmissionSuperseded"
    ),
    ExitCode.IN_USE: Case(
        running(
            workflow(state(Phase.PROVISIONING)), submission=job(J.FAILED, ExitCode.IN_USE), run=read(view(owner=OTHER))
        ),
        Phase.PENDING,
        "WorkflowIdInUse",
        (DeleteCluster,),
    ),
    ExitCode.MANAGER_UNRESPONSIVE: Case(
        running(submission=job(J.FAILED, ExitCode.MANAGER_UNRESPONSIVE)), Phase.RESUMABLE, "ManagerUnresponsive"
    ),
    ExitCode.BAD_INPUT: Case(
        running(workflow(state(Phase.RUNNING)), submission=job(J.FAILED, ExitCode.BAD_INPUT, "no args"), run=read()),
        Phase.RESUMABLE,
        Refusal.ENTRYPOINT_INVALID.value,
        message="no args",
    ),
    ExitCode.CHECKPOINTS_UNREADABLE: Case(
        running(submission=job(J.FAILED, ExitCode.CHECKPOINTS_UNREADABLE, "blob abc is missing")),
        Phase.RESUMABLE,
        "CheckpointsUnreadable",
        (DeleteCluster,),
        message="blob abc is missing",
    ),
    ExitCode.CONFLICT: Case(
        running(
            workflow(state(Phase.RUNNING)),
            submission=job(J.FAILED, ExitCode.CONFLICT, "another DAG"),
            run=read(view(owner=OTHER)),
        ),
        Phase.FAILED,
        Refusal.WORKFLOW_CONFLICT.value,
        (DeleteCluster,),
        message="another DAG",
    ),
    ExitCode.STORE_REFUSED: Case(
        running(submission=job(J.FAILED, ExitCode.STORE_REFUSED, "no credentials"), run=read(view(), W.RESUMABLE)),
        Phase.RESUMABLE,
        "StoreRefused",
        (DeleteCluster,),
        message="no credentials",
    ),
}


@pytest.mark.parametrize("code", ExitCode, ids=lambda code: code.name)
def test_operator_handles_every_exit_code(code: ExitCode) -> None:
    check(AFTER_EXIT[code])


def test_operator_resumes_a_run_that_is_unfinished_after_exit_0() -> None:
    seen = running(submission=job(J.SUCCEEDED, ExitCode.FINISHED))
    check(Case(seen, Phase.RESUMABLE, "SubmissionEndedEarly", expect={"cluster": build.state(Phase.RUNNING).cluster}))


def test_submission_names_a_run_that_was_read_before() -> None:
    """The driver must not create such a run again, if the store lost it after the decision."""
    for epoch, exists in ((0, False), (2, True)):
        obj = workflow(state(Phase.PROVISIONING, epoch=epoch))
        seen = running(obj, submission=job(J.UNKNOWN), run=read(view(epoch=2), W.RESUMABLE))
        seen = seen if epoch else dataclasses.replace(seen, run=read())
        (action,) = (each for each in decide(seen, NOW).actions if isinstance(each, SubmitRun))
        assert Submission.parse(shlex.split(action.entrypoint)[-1]).run_exists == exists
