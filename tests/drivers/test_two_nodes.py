"""A Ray of two nodes: workers reach the manager from both, ephemeral values move between them, and a node dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.minio_server import MinioServer
from tests.support import invariants
from tests.support.drivers import Tree, cluster, driver, joined
from tests.support.history import Expected
from tests.support.marks import Marks
from tests.support.waiting import until
from workflow.model import records as r
from workflow.store import open_store


@pytest.fixture(scope="module")
def first_node() -> Iterator[tuple[Tree, str]]:
    """The first node, and its address."""
    with cluster() as started:
        yield started


@pytest.fixture
def address(first_node: tuple[Tree, str]) -> str:
    """The address of the first node."""
    return first_node[1]


def ephemeral(folder: Path) -> set[str]:
    """Return the steps that returned ephemeral values."""
    written = invariants.log_of(open_store(str(folder)), "w")
    return {each.record.step_id for each in written if isinstance(each.record, r.StepReturnedEphemeral)}


def test_ephemeral_values_move_between_nodes(marks: Marks, folder: Path, address: str) -> None:
    marks.open("hold")
    with (
        joined(address, {"crossed": 4}),
        driver("nodes.py", str(folder), marks.folder, "w", "values-move", "crossed", address=address) as script,
    ):
        assert "as expected" in script.printed("result")
        assert script.ended() == 0
    assert marks.starts() == {"make on far": 1, "doubled on near": 1, "hold": 1, "last on far": 1}
    assert ephemeral(folder) == {"make", "doubled"}
    assert max(info.size for info in open_store(str(folder)).list("workflows/")) < 100_000
    invariants.check(open_store(str(folder)), "w")


def test_ephemeral_value_of_a_dead_node_is_produced_again(marks: Marks, folder: Path, address: str) -> None:
    with (
        joined(address, {"lost": 4}) as node,
        driver("nodes.py", str(folder), marks.folder, "w", "values-far", "lost", address=address) as script,
    ):
        until(lambda: ephemeral(folder) == {"make", "doubled"})
        node.kill()
        marks.open("hold")
        assert "as expected" in script.printed("result")
        assert script.ended() == 0
    starts = marks.starts()
    assert {step: times for step, times in starts.items() if not step.startswith("last")} == {
        "make on far": 1, "doubled on far": 1, "hold": 1, "make on near": 1, "doubled on near": 1,
    }  # fmt: skip
    assert starts["last on near"] == 1
    invariants.check(open_store(str(folder)), "w")


def test_only_unfinished_steps_of_a_dead_node_run_again(marks: Marks, folder: Path, address: str) -> None:
    store = open_store(str(folder))
    with (
        joined(address, {"needed": 4}) as node,
        driver("nodes.py", str(folder), marks.folder, "w", "steps-far", "needed", address=address) as script,
    ):
        until(lambda: len(invariants.committed(store, "w")) == 6)
        before = invariants.executed(store, "w")
        marks.wait_started("work6")
        node.kill()
        marks.open("work")
        with joined(address, {"needed": 4}):
            assert "as expected" in script.printed("result")
            assert script.ended() == 0
    starts = marks.starts()
    assert {step_id: starts[step_id] for step_id in before} == dict.fromkeys(before, 1)
    assert starts["work6"] == 2
    expected = Expected("66", [(1, step_id) for step_id in marks.order()])
    assert set(invariants.check(store, "w", expected=expected).claims) == {1}, "the death of a node causes no claim"


def test_node_that_does_not_see_the_store_is_named(
    first_node: tuple[Tree, str], minio_server: MinioServer, bucket: str
) -> None:
    head, address = first_node
    url = f"s3://{bucket}/flows?endpoint={minio_server.endpoint}"
    keys = {"AWS_ACCESS_KEY_ID": minio_server.access_key, "AWS_SECRET_ACCESS_KEY": minio_server.secret_key}
    with (
        joined(address, {"apart": 4}),
        driver("stores.py", head.look_around()[0].cwd(), "apart", url, address=address, **keys) as script,
    ):
        output = script.printed("end")
        assert script.ended() == 0
    lines = dict(line.partition(" ")[::2] for line in output.splitlines())
    for case in ("manager", "again"):
        assert "this process on node" in lines[case]
        assert "does not see there what the manager on node" in lines[case]
        assert "use a folder that all nodes mount at this path" in lines[case]
    assert lines["left"] == "['#clock']", "nothing is stored before the proof"
    assert lines["same"] == "returned 1"
    assert "the worker on node" in lines["worker"]
    assert "the manager on node" in lines["credentials"]
    assert "this process has no credentials for S3" in lines["credentials"]
    assert lines["credentials"].endswith("docs/stores.md, section Credentials")
    assert int(lines["credentials"].split()[1]) < 15
