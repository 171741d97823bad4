"""Whether an owner is lost: by the end of its processes on this machine, by its heartbeat elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tests.support.managers import AFTER_HEARTBEAT_TIMEOUT, Clock
from workflow.log import keys, liveness, processes
from workflow.log.liveness import HEARTBEAT_TIMEOUT
from workflow.model.run_view import Owner
from workflow.store.memory import MemoryStore

HERE = Owner("here", "i1", process="here 1-2 3-4")
ELSEWHERE = Owner("elsewhere", "i1", process="elsewhere 1-2 3-4")


@dataclass
class Cluster:
    """A store, and managers that send heartbeats until they die."""

    clock: Clock = field(default_factory=Clock)
    store: MemoryStore = field(init=False)
    alive: set[Owner] = field(default_factory=lambda: {HERE, ELSEWHERE})

    def __post_init__(self) -> None:
        self.store = MemoryStore("m", self.clock)
        self.beat()

    def beat(self) -> None:
        for owner in self.alive:
            liveness.send_heartbeat(self.store, owner, 1)

    def sleep(self, seconds: float) -> None:
        """Let time pass. Living managers send a heartbeat every 5 s."""
        before = int(self.clock.now // 5)
        self.clock.now += seconds
        if int(self.clock.now // 5) > before:
            self.beat()

    def watch(self, *owners: Owner) -> set[Owner]:
        return liveness.watch(self.store, owners, self.sleep, self.clock)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    ended = lambda text: text.startswith("here") and HERE not in cluster.alive  # noqa: E731
    monkeypatch.setattr(processes, "have_ended", ended)
    return cluster


def test_an_owner_that_died_on_this_machine_is_lost_at_once(cluster: Cluster) -> None:
    assert not liveness.is_lost(cluster.store, HERE)
    cluster.alive.remove(HERE)
    assert liveness.is_lost(cluster.store, HERE)


def test_an_owner_elsewhere_is_lost_when_its_heartbeat_expires(cluster: Cluster) -> None:
    cluster.alive.clear()
    cluster.clock.now = HEARTBEAT_TIMEOUT
    assert not liveness.is_lost(cluster.store, ELSEWHERE)
    cluster.clock.now = AFTER_HEARTBEAT_TIMEOUT
    assert liveness.is_lost(cluster.store, ELSEWHERE)


def test_a_frozen_owner_on_this_machine_is_lost_later(cluster: Cluster) -> None:
    """Its process exists, but sends no heartbeat."""
    cluster.clock.now = AFTER_HEARTBEAT_TIMEOUT
    assert liveness.is_lost(cluster.store, HERE)


def test_an_owner_without_a_heartbeat_is_lost(cluster: Cluster) -> None:
    liveness.remove_heartbeat(cluster.store, ELSEWHERE)
    assert liveness.is_lost(cluster.store, ELSEWHERE)
    assert liveness.heartbeat_age(cluster.store, "elsewhere") is None


def test_heartbeat_shows_the_process_and_its_runs(cluster: Cluster) -> None:
    liveness.send_heartbeat(cluster.store, ELSEWHERE, 3)
    assert cluster.store.get(keys.heartbeat("elsewhere")) == b'{"incarnation": "i1", "runs": 3}'


def test_a_heartbeat_of_a_later_incarnation_is_not_removed(cluster: Cluster) -> None:
    later = Owner("elsewhere", "i2")
    liveness.send_heartbeat(cluster.store, later, 0)
    liveness.remove_heartbeat(cluster.store, ELSEWHERE)
    assert cluster.store.get(keys.heartbeat("elsewhere")) is not None
    liveness.remove_heartbeat(cluster.store, later)
    assert cluster.store.get(keys.heartbeat("elsewhere")) is None
    liveness.remove_heartbeat(cluster.store, later)


def test_watch_ends_with_the_next_heartbeat_of_living_owners(cluster: Cluster) -> None:
    assert cluster.watch(HERE, ELSEWHERE) == set()
    assert cluster.clock.now <= 8


def test_watch_waits_until_a_silent_owner_is_lost(cluster: Cluster) -> None:
    cluster.clock.now = 12.0
    cluster.alive = {HERE}
    assert cluster.watch(HERE, ELSEWHERE) == {ELSEWHERE}
    assert HEARTBEAT_TIMEOUT < cluster.clock.now <= HEARTBEAT_TIMEOUT + 2


def test_watch_sees_an_owner_that_dies_on_this_machine(cluster: Cluster) -> None:
    cluster.alive = set()
    assert cluster.watch(HERE) == {HERE}
    assert cluster.clock.now == 0


def test_watch_returns_owners_without_a_heartbeat_at_once(cluster: Cluster) -> None:
    liveness.remove_heartbeat(cluster.store, ELSEWHERE)
    assert cluster.watch(ELSEWHERE) == {ELSEWHERE}
    assert cluster.watch() == set()
    assert cluster.clock.now == 0


def test_heartbeat_explains_waits_of_its_own_incarnation(cluster: Cluster) -> None:
    liveness.send_heartbeat(cluster.store, ELSEWHERE, 2, {"run-1": "step a has no worker"})
    assert liveness.wait_reason(cluster.store, ELSEWHERE, "run-1") == "step a has no worker"
    assert liveness.wait_reason(cluster.store, ELSEWHERE, "run-2") == ""
    assert liveness.wait_reason(cluster.store, Owner("elsewhere", "i2"), "run-1") == ""
    cluster.beat()
    assert liveness.wait_reason(cluster.store, ELSEWHERE, "run-1") == ""


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"no json", b'{"waits": 1, "incarnation": "i1"}'], ids=repr)
def test_heartbeat_of_another_version_explains_nothing(cluster: Cluster, content: bytes) -> None:
    cluster.store.overwrite(keys.heartbeat("elsewhere"), content)
    assert liveness.wait_reason(cluster.store, ELSEWHERE, "run-1") == ""


def test_missing_heartbeat_explains_nothing(cluster: Cluster) -> None:
    liveness.remove_heartbeat(cluster.store, ELSEWHERE)
    assert liveness.wait_reason(cluster.store, ELSEWHERE, "run-1") == ""


@pytest.mark.parametrize("seconds", [0.0, 1.0, 2.0, 3.0, 4.0])
def test_watch_waits_for_each_owner_as_long_as_it_needs(cluster: Cluster, seconds: float) -> None:
    """One owner lives, one is lost in the meantime, and one was lost before."""
    cluster.clock.now = 5.0 + seconds
    cluster.alive = {ELSEWHERE}
    other, gone = Owner("other", "i1"), Owner("gone", "i1")
    liveness.send_heartbeat(cluster.store, other, 1)
    assert cluster.watch(gone, ELSEWHERE, other) == {gone, other}
    silent = cluster.clock.now - 5.0 - seconds
    assert HEARTBEAT_TIMEOUT < silent <= HEARTBEAT_TIMEOUT + 1
