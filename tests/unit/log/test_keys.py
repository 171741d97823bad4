"""Keys: any id works, no key leaves the root, and no key is a folder of another key."""

from __future__ import annotations

import pytest
from hypothesis import given
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
