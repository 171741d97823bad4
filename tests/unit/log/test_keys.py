"""Keys: any id works, no key leaves the root, and no key is a folder of another key."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workflow.errors import InvalidInputError
from workflow.log import keys
from workflow.store.key_rules import check_key

ODD = [
    "plain", "with space", "a/b", "../../etc/passwd", "a\\b", "Ärger", "日本語", "🐍" * 40, "a\x00b", "%2F", "a%b", "=",
    "-", "~", "a.b", "...", "x" * 180, "x" * 181, "é" * 300, "ns.name.uid" * 40, "\n", "CON", "#hash", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("workflow_id", ODD, ids=lambda text: repr(text)[:20])
def test_an_unusual_id_has_keys_that_every_store_accepts(workflow_id: str) -> None:
    where = keys.RunPaths(workflow_id, 1, "0" * 32)
    for key in (
        keys.registry_entry(workflow_id, 1),
        keys.index("RUNNING", workflow_id),
        where.segment(1),
        where.blob("a" * 64),
    ):
        check_key(key)
    assert keys.registry_entry(workflow_id, 1).count("/") == 3


@given(workflow_id=st.text(st.characters(exclude_categories=()), min_size=1, max_size=300))
@example(workflow_id="half of a character: \ud800")
@example(workflow_id="\ud800" * 100)
def test_an_id_is_one_part_of_a_key_and_can_be_read_back(workflow_id: str) -> None:
    if workflow_id in (".", ".."):
        return
    part = keys.escape(workflow_id)
    assert "/" not in part
    assert part not in (".", "..")
    assert len(part.encode()) <= 180
    back = keys.unescape(part)
    assert back is None or back == workflow_id
    assert (back is None) == (len(keys.escape(workflow_id)) == 110 + 1 + 64 and "=" in part)


@given(st.lists(st.text(min_size=1, max_size=200), min_size=2, max_size=6, unique=True))
def test_two_ids_never_share_a_key(workflow_ids: list[str]) -> None:
    parts = {keys.escape(each) for each in workflow_ids if each not in (".", "..")}
    assert len(parts) == len([each for each in workflow_ids if each not in (".", "..")])


@pytest.mark.parametrize("bad", ["", ".", "..", None, 7, b"bytes"], ids=repr)
def test_an_invalid_id_is_refused_with_advice(bad: object) -> None:
    with pytest.raises(InvalidInputError, match="cannot be a workflow id; give any string"):
        keys.escape(bad)  # type: ignore[arg-type]


def test_no_key_is_a_folder_of_another() -> None:
    where = keys.RunPaths("w", 1, "u")
    built = [
        keys.registry_entry("w", 1), where.segment(1), where.snapshot(1), where.blob("b"), where.request("r"),
        keys.notification("u", "r"), keys.owned("m", "u"), keys.heartbeat("m"), keys.index("RUNNING", "w"),
    ]  # fmt: skip
    for key in built:
        assert not [other for other in built if other.startswith(key + "/")]


def test_keys_sort_by_their_numbers() -> None:
    where = keys.RunPaths("w", 1, "u")
    assert sorted([where.segment(10), where.segment(9), where.segment(100)]) == [
        where.segment(9), where.segment(10), where.segment(100),
    ]  # fmt: skip
    assert keys.registry_entry("w", 9) < keys.registry_entry("w", 10)


def test_runs_of_one_id_have_disjoint_folders() -> None:
    assert not keys.RunPaths("w", 11, "u").folder.startswith(f"{keys.runs('w')}1-")


PATHS = keys.RunPaths("a b/ü", 7, "u-1")
ID = "a%20b%2F%C3%BC"
FORMAT = {
    keys.registry("a b/ü"): f"workflows/{ID}/registry/",
    keys.registry_entry("a b/ü", 7): f"workflows/{ID}/registry/0000000007",
    keys.runs("a b/ü"): f"workflows/{ID}/runs/",
    PATHS.folder: f"workflows/{ID}/runs/7-u-1/",
    PATHS.segment(7): f"workflows/{ID}/runs/7-u-1/log/00000000000000000007",
    PATHS.snapshot(7): f"workflows/{ID}/runs/7-u-1/snapshot/00000000000000000007",
    PATHS.blob("ab"): f"workflows/{ID}/runs/7-u-1/blobs/ab",
    PATHS.request("q"): f"workflows/{ID}/runs/7-u-1/inbox/q",
    keys.notification("u-1", "q"): "notifications/u-1.q",
    keys.owned("m", "u-1"): "owned/m/u-1",
    keys.owned("m"): "owned/m/",
    keys.heartbeat("m"): "managers/m",
    keys.index("RUNNING", "a b/ü"): f"index/RUNNING/{ID}",
    keys.index("RUNNING"): "index/RUNNING/",
}


@pytest.mark.parametrize(("built", "stored"), FORMAT.items(), ids=FORMAT.values())
def test_key_is_that_of_the_stored_format(built: str, stored: str) -> None:
    assert built == stored


@pytest.mark.parametrize("longest", ["w" * 180, "ü" * 30, "a/" * 45], ids=["ASCII", "other", "symbols"])
def test_id_is_shortened_from_181_escaped_bytes_on(longest: str) -> None:
    """The hash is that of the whole id, not of its escaped form."""
    assert len(keys.escape(longest)) == 180
    longer = longest + "w"
    digest = hashlib.sha256(longer.encode()).hexdigest()
    assert keys.escape(longer) == f"{keys.escape(longest)[:110]}={digest}"


@pytest.mark.parametrize("number", [1, 9, 10, 12_345])
@pytest.mark.parametrize("uuid", ["u", "1-u", "0" * 32])
def test_run_key_is_split_into_its_parts(number: int, uuid: str) -> None:
    paths = keys.RunPaths("a/b", number, uuid)
    assert keys.run_key(paths.segment(3)) == keys.RunKey(number, uuid, "log", f"{3:020d}")
    assert keys.run_key(paths.request("q")) == keys.RunKey(number, uuid, "inbox", "q")


@pytest.mark.parametrize(
    "key",
    [
        "workflows/w/registry/0000000001", "workflows/w/runs/1-u", "workflows/w/runs/1-u/log",
        "workflows/w/runs/u/log/1", "workflows/w/runs/1-u/log/1/more", "workflows/w/x/runs/1-u/log/1",
        "other/workflows/w/runs/1-u/log/1", "workflows/w/runs/-1-u/log/1", "workflows/w/runs/1-/log/1",
        "index/RUNNING/w",
    ],
)  # fmt: skip
def test_other_key_is_not_a_run_key(key: str) -> None:
    assert keys.run_key(key) is None
