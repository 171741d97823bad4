"""Claims: a table of permitted claims, and rivals that act at each failpoint."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.support import invariants, runs
from tests.support.failpoints import BlockAt, CallAt, Dies, die
from tests.support.strict import StrictStore
from workflow.errors import FencedError, SupersededError, WorkflowConflictError, WorkflowInUseError
from workflow.log import failpoints, keys, registry
from workflow.log.claim import Claimant, ClaimPurpose, claim, refusal
from workflow.log.failpoints import NO_FAILPOINTS, Failpoints
from workflow.log.run_log import RunLog
from workflow.model import records as r
from workflow.model.run_view import Owner
from workflow.model.snapshot import compact
from workflow.model.state import RunState
from workflow.model.status import WorkflowStatus
from workflow.model.totals import totals_of
from workflow.store.memory import MemoryStore

DAG = runs.graph("a b:a")
S = WorkflowStatus
RECOVER, REQUEST = ClaimPurpose.RECOVER, ClaimPurpose.REQUEST

PERSON = Owner("m1", "i1", "manager-1")
OWNERS = {
    "person": PERSON,
    "attempt 2 of u": Owner("m1", "i1", "manager-1", "u", 2),
}
STATES: dict[str, list[r.Record]] = {
    "running": [],
    "released": [r.StatusChanged(S.RESUMABLE, 1, 9.0)],
    "failed": [runs.failed("a"), r.StatusChanged(S.FAILED, 1, 9.0)],
    "canceled": [r.StatusChanged(S.CANCELED, 1, 9.0)],
}
OTHER = Owner("m2", "i2")
RESTARTED = Owner("m1", "i2")


def case(
    state: str,
    expired: bool,
    claimant: Owner,
    refused: type[Exception] | None,
    *,
    owner: str = "person",
    **options: Any,
) -> object:
    heartbeat = "expired" if expired else "alive"
    by = f"{claimant.manager} {claimant.uid}{claimant.attempt or ''}"
    chosen = {name: getattr(value, "name", getattr(value, "manager", value)) for name, value in options.items()}
    name = f"{owner}, {state}, {heartbeat}: {by} {chosen or ''}"
    return pytest.param(owner, state, expired, claimant, options, refused, id=name)


U1, U2, U3 = (Owner("m2", "i2", "", "u", attempt) for attempt in (1, 2, 3))
V1 = Owner("m3", "i3", "", "v", 1)


@pytest.mark.parametrize(
    ("owner", "state", "expired", "claimant", "options", "expected"),
    [
        case("running", False, OTHER, WorkflowInUseError),
        case("running", True, OTHER, None),
        case("running", False, OTHER, None, take_over=PERSON),
        case("running", False, OTHER, WorkflowInUseError, take_over=RESTARTED),
        case("running", False, OTHER, WorkflowInUseError, take_over=V1),
        case("running", False, OTHER, WorkflowInUseError, take_over=OWNERS["attempt 2 of u"]),
        case("running", False, OTHER, WorkflowInUseError, take_over=OTHER),
        case("running", True, OTHER, None, take_over=V1),
        case("released", False, OTHER, None),
        case("released", False, OTHER, None, take_over=V1),
        case("running", False, RESTARTED, None),
        case("failed", True, OTHER, WorkflowConflictError),
        case("failed", True, OTHER, WorkflowConflictError, take_over=PERSON),
        case("failed", False, OTHER, None, retry_failed=1),
        case("failed", True, OTHER, WorkflowConflictError, retry_failed=0),
        case("failed", True, OTHER, WorkflowConflictError, retry_failed=2),
        case("canceled", True, OTHER, WorkflowConflictError, retry_failed=1, take_over=PERSON),
        case("running", False, OTHER, WorkflowInUseError, retry_failed=1),
        case("running", False, U1, WorkflowInUseError),
        case("running", False, U1, SupersededError, owner="attempt 2 of u"),
        case("running", True, U1, SupersededError, owner="attempt 2 of u"),
        case("released", True, U1, SupersededError, owner="attempt 2 of u"),
        case("running", True, U1, SupersededError, owner="attempt 2 of u", take_over=OWNERS["attempt 2 of u"]),
        case("running", False, U2, WorkflowInUseError, owner="attempt 2 of u"),
        case("running", True, U2, None, owner="attempt 2 of u"),
        case("released", False, U2, None, owner="attempt 2 of u"),
        case("running", False, U3, None, owner="attempt 2 of u"),
        case("running", False, V1, WorkflowInUseError, owner="attempt 2 of u"),
        case("running", True, V1, None, owner="attempt 2 of u"),
        case("released", False, V1, None, owner="attempt 2 of u"),
        case("running", False, OTHER, WorkflowInUseError, owner="attempt 2 of u"),
        case("running", False, RESTARTED, WorkflowInUseError, owner="attempt 2 of u"),
        case("running", False, Owner("m1", "i2", "", "u", 2), None, owner="attempt 2 of u"),
        case("running", False, Owner("m1", "i2", "", "v", 2), WorkflowInUseError, owner="attempt 2 of u"),
        # a manager that recovers its runs
        case("running", False, RESTARTED, None, purpose=RECOVER),
        case("running", True, OTHER, SupersededError, purpose=RECOVER),
        case("released", False, RESTARTED, SupersededError, purpose=RECOVER),
        case("released", True, OTHER, SupersededError, purpose=RECOVER),
        case("failed", False, RESTARTED, WorkflowConflictError, purpose=RECOVER),
        case("running", False, Owner("m1", "i2", "", "u", 2), None, owner="attempt 2 of u", purpose=RECOVER),
        case("running", False, Owner("m1", "i2", "", "u", 1), SupersededError, owner="attempt 2 of u", purpose=RECOVER),
        case("running", True, Owner("m1", "i2", "", "v", 2), SupersededError, owner="attempt 2 of u", purpose=RECOVER),
        # a request from outside: of a user, then of Workflow objects
        case("running", False, OTHER, WorkflowInUseError, purpose=REQUEST),
        case("running", True, OTHER, None, purpose=REQUEST),
        case("running", True, OTHER, None, owner="attempt 2 of u", purpose=REQUEST),
        case("running", False, OTHER, WorkflowInUseError, owner="attempt 2 of u", purpose=REQUEST),
        case("released", False, OTHER, None, purpose=REQUEST),
        case("failed", True, OTHER, WorkflowConflictError, purpose=REQUEST),
        case("failed", True, OTHER, None, purpose=REQUEST, retry_failed=1),
        case("running", False, U2, None, owner="attempt 2 of u", purpose=REQUEST),
        case("running", False, U3, None, owner="attempt 2 of u", purpose=REQUEST),
        case("running", True, U1, SupersededError, owner="attempt 2 of u", purpose=REQUEST),
        case("failed", False, U2, None, owner="attempt 2 of u", purpose=REQUEST, retry_failed=1),
        case("running", False, V1, SupersededError, owner="attempt 2 of u", purpose=REQUEST),
        case("running", True, V1, SupersededError, owner="attempt 2 of u", purpose=REQUEST),
        case("failed", True, V1, SupersededError, owner="attempt 2 of u", purpose=REQUEST, retry_failed=1),
        case("released", False, V1, None, owner="attempt 2 of u", purpose=REQUEST),
        case("running", False, V1, WorkflowInUseError, purpose=REQUEST),
        case("running", True, V1, None, purpose=REQUEST),
    ],
)  # fmt: skip
def test_who_may_claim(
    owner: str, state: str, expired: bool, claimant: Owner, options: dict[str, Any], expected: type[Exception] | None
) -> None:
    folded = runs.state_of(DAG, *([STATES[state]] if STATES[state] else []), owner=OWNERS[owner])
    refused = refusal(folded, Claimant(claimant, at=1.0, **options), expired)
    assert (type(refused) if refused else None) is expected
    if refused is not None:
        assert "'w'" in str(refused)
        fields: dict[str, object] = {"workflow_id": "w"}
        if isinstance(refused, WorkflowInUseError):
            fields["owner"] = OWNERS[owner]
        if isinstance(refused, WorkflowConflictError):
            fields["status"] = folded.status
            assert ("only a FAILED workflow can be resumed" in str(refused)) is (folded.status is not S.FAILED)
        assert refused.fields == fields


@pytest.mark.parametrize(
    ("owner", "state", "options", "text"),
    [
        ("person", "failed", {}, "status FAILED; call workflow.resume('w') to run its failed steps again"),
        *(
            (
                "person",
                "failed",
                {"retry_failed": seq},
                "status FAILED; another process resumed it first, and it failed again;",
            )
            for seq in (0, 2)
        ),
        (
            "person",
            "running",
            {"purpose": RECOVER},
            "manager m2 cannot recover workflow 'w': manager manager-1 claimed it (epoch 1)",
        ),
        ("person", "released", {"purpose": RECOVER}, "manager m2 cannot recover workflow 'w': it was released"),
        (
            "person",
            "running",
            {},
            "manager manager-1 (epoch 1) runs it; wait for it: a dead owner counts as lost 30 s after",
        ),
        ("attempt 2 of u", "running", {}, "manager manager-1 (epoch 1, object u, attempt 2) runs it; wait for it"),
    ],
)
def test_refusal_explains_itself(owner: str, state: str, options: dict[str, Any], text: str) -> None:
    folded = runs.state_of(DAG, *([STATES[state]] if STATES[state] else []), owner=OWNERS[owner])
    assert text in str(refusal(folded, Claimant(OTHER, at=1.0, **options), owner_lost=False))


# --- claims in a store ---


class Fixture:
    """A run of one owner, and claimants with failpoints of their own."""

    def __init__(self) -> None:
        self.store = StrictStore()
        self.created = runs.created(DAG)
        registry.register(self.store, self.created)
        RunLog(self.store, self.created).blobs.put(b"a function")

    def log(self, of: Failpoints = NO_FAILPOINTS) -> RunLog:
        return RunLog(self.store, self.created, of)

    def claim(self, manager: str, of: Failpoints = NO_FAILPOINTS, *, take_over: bool = False) -> RunState:
        log = self.log(of)
        state = log.replay()
        against = state.owner if take_over else None
        claim(log, state, Claimant(Owner(manager, "i", f"manager-{manager}"), 1.0, take_over=against))
        return state

    def epochs(self) -> list[str]:
        return [w.record.owner.manager for w in invariants.log_of(self.store, "w") if isinstance(w.record, r.Claimed)]


@pytest.fixture
def fixture() -> Fixture:
    return Fixture()


def test_a_claim_is_the_next_epoch(fixture: Fixture) -> None:
    state = fixture.claim("m2", take_over=True)
    assert (state.epoch, state.owner.manager, state.status) == (2, "m2", S.RUNNING)
    assert fixture.epochs() == ["m2"]


def test_a_claim_is_judged_by_the_present_state(fixture: Fixture) -> None:
    """The owner lives, but it released the run after the claimant had read it."""
    fixture.store.overwrite(keys.heartbeat("m1"), b"")
    log = fixture.log()
    known = log.replay()
    runs.append(fixture.log(), [r.StatusChanged(S.RESUMABLE, 1, 9.0)])
    assert claim(log, known, Claimant(OTHER, at=1.0)) == 2
    assert known.owner == OTHER


@pytest.mark.parametrize("point", [failpoints.BEFORE_CLAIM, failpoints.AFTER_CLAIM])
def test_a_rival_that_claims_during_a_claim(fixture: Fixture, point: str) -> None:
    """Before our append the rival wins and we are refused. After it the rival takes over and we are fenced."""
    fixture.store.overwrite(keys.heartbeat("rival"), b"")
    rival = CallAt(point, lambda: fixture.claim("rival", take_over=True))
    if point == failpoints.BEFORE_CLAIM:
        with pytest.raises(WorkflowInUseError, match="manager-rival"):
            fixture.claim("m2", rival)
        assert fixture.epochs() == ["rival"]
    else:
        mine = fixture.claim("m2", rival, take_over=True)
        assert fixture.epochs() == ["m2", "rival"]
        with pytest.raises(FencedError):
            fixture.log().append(mine, [runs.started("a", epoch=2)])
    assert rival.reached
    invariants.check(fixture.store, "w")


@pytest.mark.parametrize("alive", [True, False], ids=["alive", "expired"])
def test_take_over_does_not_replace_an_owner_that_came_later(fixture: Fixture, alive: bool) -> None:
    """The right to take over is against the owner that was read. A later owner is replaced only if it is lost, too."""
    if alive:
        fixture.store.overwrite(keys.heartbeat("rival"), b"")
    rival = CallAt(failpoints.BEFORE_CLAIM, lambda: fixture.claim("rival", take_over=True))
    if alive:
        with pytest.raises(WorkflowInUseError, match=r"manager-rival \(epoch 2\) runs it.* take over from manager-1;"):
            fixture.claim("m2", rival, take_over=True)
    else:
        assert fixture.claim("m2", rival, take_over=True).epoch == 3
    assert fixture.epochs() == (["rival"] if alive else ["rival", "m2"])
    invariants.check(fixture.store, "w")


def test_retry_does_not_undo_a_failure_that_came_later(fixture: Fixture) -> None:
    def claimed_for_retry(manager: str, failure: int, of: Failpoints = NO_FAILPOINTS) -> None:
        claim(fixture.log(of), fixture.log().replay(), Claimant(Owner(manager, "i"), 1.0, retry_failed=failure))

    def retry_that_fails_again() -> None:
        claimed_for_retry("rival", 1)
        runs.append(fixture.log(), [runs.failed("a", 2), r.StatusChanged(S.FAILED, 2, 9.0)])

    runs.append(fixture.log(), [runs.failed("a"), r.StatusChanged(S.FAILED, 1, 9.0)])
    with pytest.raises(
        WorkflowConflictError, match=r"resumed it first, and it failed again; call workflow.resume\('w'\)"
    ):
        claimed_for_retry("m2", 1, CallAt(failpoints.BEFORE_CLAIM, retry_that_fails_again))
    assert fixture.epochs() == ["rival"]
    claimed_for_retry("m2", 3)
    invariants.check(fixture.store, "w")


def test_a_commit_during_a_claim_is_kept(fixture: Fixture) -> None:
    def commit() -> None:
        runs.append(fixture.log(), [runs.started("a"), runs.committed("a")])

    state = fixture.claim("m2", CallAt(failpoints.BEFORE_CLAIM, commit), take_over=True)
    assert set(state.ready) == {"b"}
    invariants.check(fixture.store, "w")


def test_a_run_finished_during_a_claim_stays_finished(fixture: Fixture) -> None:
    def finish() -> None:
        end = r.StatusChanged(S.SUCCESSFUL, 1, 1.0)
        runs.append(fixture.log(), [runs.committed("a"), runs.committed("b"), end])

    with pytest.raises(WorkflowConflictError, match="already ended with status SUCCESSFUL"):
        fixture.claim("m2", CallAt(failpoints.BEFORE_CLAIM, finish), take_over=True)
    invariants.check(fixture.store, "w")


@pytest.mark.parametrize("point", [failpoints.BEFORE_COMMIT, failpoints.AFTER_COMMIT])
def test_an_owner_that_is_overtaken_during_its_commit(fixture: Fixture, point: str) -> None:
    owner = fixture.log(CallAt(point, lambda: fixture.claim("m2", take_over=True)))
    state = owner.replay()
    records: list[r.Record] = [runs.started("a"), runs.committed("a")]
    if point == failpoints.BEFORE_COMMIT:
        with pytest.raises(FencedError, match="another owner wrote segment 1"):
            owner.append(state, records)
        assert invariants.committed(fixture.store, "w") == []
    else:
        owner.append(state, records)
        with pytest.raises(FencedError):
            owner.append(state, [runs.started("b")])
        assert invariants.committed(fixture.store, "w") == ["a"]
    invariants.check(fixture.store, "w")


@pytest.mark.parametrize("point", failpoints.ALL)
def test_a_run_can_be_claimed_after_a_death_at_any_failpoint(point: str) -> None:
    store = MemoryStore()
    dag = runs.graph("a " + " ".join(f"s{i}:a" for i in range(300)))  # large, so that its DAG is stored as a blob
    dies: Failpoints = CallAt(point, die)
    created = runs.created(dag)
    log = RunLog(store, created, dies)

    def create_commit_and_claim() -> None:
        log.blobs.put(b"a function")
        inline, blob = log.blobs.store_graph(dag)
        mine = runs.created(dag, graph=inline) if inline else runs.created(dag, graph=None, graph_blob=blob)
        registry.register(store, mine, dies)
        owned = RunLog(store, mine, dies)
        runs.append(owned, [runs.started("a"), runs.committed("a")])
        owned.write_snapshot(1, compact(owned.replay()))
        state = owned.replay()
        claim(owned, state, Claimant(Owner("m2", "i"), 1.0, take_over=state.owner))

    with pytest.raises(Dies):
        create_commit_and_claim()
    named = registry.current_entry(store, "w")
    if named is None:
        assert point in (failpoints.BEFORE_BLOB, failpoints.AFTER_BLOB, failpoints.BEFORE_REGISTER)
        return
    assert isinstance(named, r.Created)
    after = RunLog(store, named)
    state = after.replay()
    claim(after, state, Claimant(Owner("m3", "i"), 1.0, take_over=state.owner))
    assert state.steps["a"].outcome is not None or not invariants.committed(store, "w")
    invariants.check(store, "w")


def test_a_waiting_owner_looks_ahead(fixture: Fixture) -> None:
    fixture.log().check_fence(0)
    fixture.claim("m2", take_over=True)
    with pytest.raises(FencedError, match="another owner wrote segment 1 of run run-1") as caught:
        fixture.log().check_fence(0)
    assert caught.value.fields == {"workflow_id": "w"}


@pytest.mark.parametrize(("running", "suspects"), [([], "none"), (["a"], "a")])
def test_claim_that_ends_the_run_names_the_suspects(running: list[str], suspects: str) -> None:
    store = StrictStore()
    created = runs.created(runs.graph("a b"), max_resumes=0)
    registry.register(store, created)
    log = RunLog(store, created)
    log.blobs.put(b"a function")
    runs.append(log, [r.RequestHandled("q", 1, "done"), *(runs.started(step_id) for step_id in running)])
    state = log.replay()
    assert claim(log, state, Claimant(OTHER, at=5.0)) == 2
    assert state.terminal is not None
    error = state.terminal[1].error
    assert error is not None
    assert error.message.endswith(f"; steps running at those times: {suspects}")


def test_a_claim_whose_reply_was_lost_is_recognized(fixture: Fixture) -> None:
    log = fixture.log()
    segment, rival = (log.seal(1, [runs.claimed(2)], totals_of(log.replay())) for _ in range(2))
    assert log.try_store(segment)
    assert log.try_store(segment)
    assert not log.try_store(rival)


ROUNDS = 50


def test_of_two_concurrent_claimants_exactly_one_wins() -> None:
    for _ in range(ROUNDS):
        fixture = Fixture()
        gate = threading.Barrier(2)
        results: dict[str, object] = {}

        def contend(manager: str, fixture: Fixture = fixture, gate: threading.Barrier = gate) -> None:
            fixture.store.overwrite(keys.heartbeat(manager), b"")
            log = fixture.log()
            state = log.replay()
            gate.wait(10)
            try:
                claim(log, state, Claimant(Owner(manager, "i", manager), 1.0))
                results[manager] = state  # noqa: B023 - joined in the same round
            except WorkflowInUseError as error:
                results[manager] = error  # noqa: B023

        threads = [threading.Thread(target=contend, args=(manager,)) for manager in ("m2", "m3")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        winners = [manager for manager, result in results.items() if isinstance(result, RunState)]
        assert len(results) == 2
        assert fixture.epochs() == winners
        assert len(winners) == 1
        invariants.check(fixture.store, "w")


def test_an_owner_paused_at_its_commit_is_fenced(fixture: Fixture) -> None:
    hold = BlockAt(failpoints.BEFORE_COMMIT)
    raised: list[BaseException] = []

    def paused_owner() -> None:
        try:
            runs.append(fixture.log(hold), [runs.committed("a", text="paused")])
        except BaseException as error:  # noqa: BLE001 - looked at below
            raised.append(error)

    thread = threading.Thread(target=paused_owner)
    thread.start()
    assert hold.reached.wait(10)
    state = fixture.claim("m2", take_over=True)
    end: list[r.Record] = [runs.committed("a", 2), runs.committed("b", 2), r.StatusChanged(S.SUCCESSFUL, 2, 1.0)]
    fixture.log().append(state, end)
    before = invariants.log_bytes(fixture.store, "w")
    hold.resume()
    thread.join(10)
    assert [type(error) for error in raised] == [FencedError]
    assert invariants.log_bytes(fixture.store, "w") == before
    invariants.check(fixture.store, "w")
