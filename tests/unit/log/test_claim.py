"""Claim and fence: who may claim, as a table; and a rival put at every named point."""

from __future__ import annotations

import threading

import pytest

from tests.support import invariants, runs
from tests.support.rivals import Dies, HoldAt, StopAt, die
from workflow.errors import FencedError, SupersededError, WorkflowConflictError, WorkflowInUseError
from workflow.log import failpoints, keys, registry
from workflow.log.claim import Claimant, claim, refusal
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

OWNERS = {
    "a person's": Owner("m1", "i1", "manager-1"),
    "u's attempt 2": Owner("m1", "i1", "manager-1", "u", 2),
}
STATES: dict[str, list[r.Record]] = {
    "runs": [],
    "goodbye": [r.StatusChanged(S.RESUMABLE, 1, 9.0)],
    "failed": [runs.failed("a"), r.StatusChanged(S.FAILED, 1, 9.0)],
    "canceled": [r.StatusChanged(S.CANCELED, 1, 9.0)],
}
ANYBODY = Owner("m2", "i2")
RESTARTED = Owner("m1", "i2")


def case(
    state: str, silent: bool, me: Owner, says: type[Exception] | None, *, owner: str = "a person's", **asked: bool
) -> object:
    name = f"{owner}, {state}, {'silent' if silent else 'alive'}: {me.manager} {me.uid}{me.attempt or ''} {asked or ''}"
    return pytest.param(owner, state, silent, me, asked, says, id=name)


U1, U2, U3 = (Owner("m2", "i2", "", "u", attempt) for attempt in (1, 2, 3))
V1 = Owner("m3", "i3", "", "v", 1)


@pytest.mark.parametrize(
    ("owner", "state", "silent", "me", "asked", "says"),
    [
        case("runs", False, ANYBODY, WorkflowInUseError),
        case("runs", True, ANYBODY, None),
        case("runs", False, ANYBODY, None, take_over=True),
        case("goodbye", False, ANYBODY, None),
        case("runs", False, RESTARTED, None),
        case("failed", True, ANYBODY, WorkflowConflictError),
        case("failed", True, ANYBODY, WorkflowConflictError, take_over=True),
        case("failed", False, ANYBODY, None, retry_failed=True),
        case("canceled", True, ANYBODY, WorkflowConflictError, retry_failed=True, take_over=True),
        case("runs", False, U1, WorkflowInUseError),
        case("runs", False, U1, SupersededError, owner="u's attempt 2"),
        case("runs", True, U1, SupersededError, owner="u's attempt 2"),
        case("goodbye", True, U1, SupersededError, owner="u's attempt 2"),
        case("runs", True, U1, SupersededError, owner="u's attempt 2", take_over=True),
        case("runs", False, U2, WorkflowInUseError, owner="u's attempt 2"),
        case("runs", True, U2, None, owner="u's attempt 2"),
        case("goodbye", False, U2, None, owner="u's attempt 2"),
        case("runs", False, U3, None, owner="u's attempt 2"),
        case("runs", False, V1, WorkflowInUseError, owner="u's attempt 2"),
        case("runs", True, V1, None, owner="u's attempt 2"),
        case("goodbye", False, V1, None, owner="u's attempt 2"),
        case("runs", False, ANYBODY, WorkflowInUseError, owner="u's attempt 2"),
        case("runs", False, RESTARTED, WorkflowInUseError, owner="u's attempt 2"),
        case("runs", False, Owner("m1", "i2", "", "u", 2), None, owner="u's attempt 2"),
        case("runs", False, Owner("m1", "i2", "", "v", 2), WorkflowInUseError, owner="u's attempt 2"),
    ],
)  # fmt: skip
def test_who_may_claim(
    owner: str, state: str, silent: bool, me: Owner, asked: dict[str, bool], says: type[Exception] | None
) -> None:
    folded = runs.state_of(DAG, *([STATES[state]] if STATES[state] else []), owner=OWNERS[owner])
    refused = refusal(folded, Claimant(me, at=1.0, **asked), silent)  # type: ignore[arg-type]
    assert (type(refused) if refused else None) is says
    if refused is not None:
        assert "'w'" in str(refused)


# --- on a store ---


class Scene:
    """A run of one owner, and claimants with points of their own."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.created = runs.created(DAG)
        registry.register(self.store, self.created)
        RunLog(self.store, self.created).blobs.put(b"a function")

    def log(self, of: Failpoints = NO_FAILPOINTS) -> RunLog:
        return RunLog(self.store, self.created, of)

    def claim(self, manager: str, of: Failpoints = NO_FAILPOINTS, **asked: bool) -> RunState:
        log = self.log(of)
        state = log.replay()
        claim(log, state, Claimant(Owner(manager, "i", f"manager-{manager}"), 1.0, **asked))  # type: ignore[arg-type]
        return state

    def epochs(self) -> list[str]:
        return [w.record.owner.manager for w in invariants.log_of(self.store, "w") if isinstance(w.record, r.Claimed)]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_claim_is_the_next_epoch(scene: Scene) -> None:
    state = scene.claim("m2", take_over=True)
    assert (state.epoch, state.owner.manager, state.status) == (2, "m2", S.RUNNING)
    assert scene.epochs() == ["m2"]


@pytest.mark.parametrize("point", [failpoints.BEFORE_CLAIM, failpoints.AFTER_CLAIM])
def test_a_rival_that_claims_at_a_point_of_ours(scene: Scene, point: str) -> None:
    """Before our append the rival wins and we are refused; behind it the rival takes over from us and we are fenced."""
    scene.store.overwrite(keys.heartbeat("rival"), b"")
    rival = StopAt(point, lambda: scene.claim("rival", take_over=True))
    if point == failpoints.BEFORE_CLAIM:
        with pytest.raises(WorkflowInUseError, match="manager-rival"):
            scene.claim("m2", rival)
        assert scene.epochs() == ["rival"]
    else:
        mine = scene.claim("m2", rival, take_over=True)
        assert scene.epochs() == ["m2", "rival"]
        with pytest.raises(FencedError):
            scene.log().append(mine, [runs.started("a", epoch=2)])
    assert rival.reached
    invariants.check(scene.store, "w")


def test_a_claimant_that_lost_the_seq_and_may_take_over_goes_on_behind_the_winner(scene: Scene) -> None:
    rival = StopAt(failpoints.BEFORE_CLAIM, lambda: scene.claim("rival", take_over=True))
    state = scene.claim("m2", rival, take_over=True)
    assert scene.epochs() == ["rival", "m2"]
    assert state.epoch == 3
    invariants.check(scene.store, "w")


def test_an_owner_that_commits_while_a_claim_is_on_its_way_keeps_its_commit(scene: Scene) -> None:
    def commit() -> None:
        runs.append(scene.log(), [runs.started("a"), runs.committed("a")])

    state = scene.claim("m2", StopAt(failpoints.BEFORE_CLAIM, commit), take_over=True)
    assert set(state.ready) == {"b"}
    invariants.check(scene.store, "w")


def test_an_owner_that_ends_the_run_while_a_claim_is_on_its_way_ends_it(scene: Scene) -> None:
    def finish() -> None:
        end = r.StatusChanged(S.SUCCESSFUL, 1, 1.0)
        runs.append(scene.log(), [runs.committed("a"), runs.committed("b"), end])

    with pytest.raises(WorkflowConflictError, match="already ended with status SUCCESSFUL"):
        scene.claim("m2", StopAt(failpoints.BEFORE_CLAIM, finish), take_over=True)
    invariants.check(scene.store, "w")


@pytest.mark.parametrize("point", [failpoints.BEFORE_COMMIT, failpoints.AFTER_COMMIT])
def test_an_owner_overtaken_at_a_point_of_its_commit(scene: Scene, point: str) -> None:
    owner = scene.log(StopAt(point, lambda: scene.claim("m2", take_over=True)))
    state = owner.replay()
    records: list[r.Record] = [runs.started("a"), runs.committed("a")]
    if point == failpoints.BEFORE_COMMIT:
        with pytest.raises(FencedError, match="another owner wrote segment 1"):
            owner.append(state, records)
        assert invariants.committed(scene.store, "w") == []
    else:
        owner.append(state, records)
        with pytest.raises(FencedError):
            owner.append(state, [runs.started("b")])
        assert invariants.committed(scene.store, "w") == ["a"]
    invariants.check(scene.store, "w")


@pytest.mark.parametrize("point", failpoints.ALL)
def test_who_dies_at_a_point_leaves_a_run_that_the_next_can_claim(point: str) -> None:
    store = MemoryStore()
    dag = runs.graph("a " + " ".join(f"s{i}:a" for i in range(300)))  # large: its DAG lies in a blob
    dies: Failpoints = StopAt(point, die)
    created = runs.created(dag)
    log = RunLog(store, created, dies)

    def whole_life() -> None:
        log.blobs.put(b"a function")
        inline, blob = log.blobs.store_graph(dag)
        mine = runs.created(dag, graph=inline) if inline else runs.created(dag, graph=None, graph_blob=blob)
        registry.register(store, mine, dies)
        owned = RunLog(store, mine, dies)
        runs.append(owned, [runs.started("a"), runs.committed("a")])
        owned.write_snapshot(1, compact(owned.replay()))
        claim(owned, owned.replay(), Claimant(Owner("m2", "i"), 1.0, take_over=True))

    with pytest.raises(Dies):
        whole_life()
    named = registry.current_entry(store, "w")
    if named is None:
        assert point in (failpoints.BEFORE_BLOB, failpoints.AFTER_BLOB, failpoints.BEFORE_REGISTER)
        return
    assert isinstance(named, r.Created)
    after = RunLog(store, named)
    state = after.replay()
    claim(after, state, Claimant(Owner("m3", "i"), 1.0, take_over=True))
    assert state.steps["a"].outcome is not None or not invariants.committed(store, "w")
    invariants.check(store, "w")


def test_a_waiting_owner_looks_ahead(scene: Scene) -> None:
    scene.log().check_fence(0)
    scene.claim("m2", take_over=True)
    with pytest.raises(FencedError):
        scene.log().check_fence(0)


def test_a_lost_answer_to_a_claim_is_known_as_ones_own(scene: Scene) -> None:
    log = scene.log()
    segment, rival = (log.seal(1, [runs.claimed(2)], totals_of(log.replay())) for _ in range(2))
    assert log.try_store(segment)
    assert log.try_store(segment)
    assert not log.try_store(rival)


ROUNDS = 50


def test_two_claimants_released_together_have_one_winner_each_time() -> None:
    for _ in range(ROUNDS):
        scene = Scene()
        gate = threading.Barrier(2)
        results: dict[str, object] = {}

        def contend(manager: str, scene: Scene = scene, gate: threading.Barrier = gate) -> None:
            scene.store.overwrite(keys.heartbeat(manager), b"")
            log = scene.log()
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
        assert scene.epochs() == winners
        assert len(winners) == 1
        invariants.check(scene.store, "w")


def test_a_zombie_held_at_its_commit_for_the_life_of_the_next_owner_writes_nothing(scene: Scene) -> None:
    hold = HoldAt(failpoints.BEFORE_COMMIT)
    raised: list[BaseException] = []

    def zombie() -> None:
        try:
            runs.append(scene.log(hold), [runs.committed("a", text="zombie")])
        except BaseException as error:  # noqa: BLE001 - looked at below
            raised.append(error)

    thread = threading.Thread(target=zombie)
    thread.start()
    assert hold.reached.wait(10)
    state = scene.claim("m2", take_over=True)
    end: list[r.Record] = [runs.committed("a", 2), runs.committed("b", 2), r.StatusChanged(S.SUCCESSFUL, 2, 1.0)]
    scene.log().append(state, end)
    before = invariants.log_bytes(scene.store, "w")
    hold.resume()
    thread.join(10)
    assert [type(error) for error in raised] == [FencedError]
    assert invariants.log_bytes(scene.store, "w") == before
    invariants.check(scene.store, "w")
