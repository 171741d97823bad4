"""Objects of the log: records read back, damage is reported with its key, newer formats have their own error."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import runs
from workflow.errors import CorruptLogError, NewerFormatError
from workflow.log import segments
from workflow.log.damage import damaged
from workflow.log.version import library_version
from workflow.model.records import Record
from workflow.model.status import StepPhase, WorkflowStatus
from workflow.model.totals import RunTotals

KEY = "workflows/w/runs/1-u/log/00000000000000000001"
RECORDS: list[Record] = [runs.started("a"), runs.committed("a", text="ünïcode\n\x00 \u2028"), runs.failed("b")]
TOTALS = RunTotals(1, runs.OWNER, WorkflowStatus.RUNNING, {StepPhase.COMMITTED: 1, StepPhase.FAILED: 1})
DATA = segments.encode("u", 1, "put", RECORDS, TOTALS)
HEADER = {"run": "u", "seq": 1, "put_id": "p", "records": 1, "version": "99.1"}
STARTED = {"k": "StepStarted", "step_id": "a", "epoch": 1, "attempt": 1, "at": 2.0}


def test_records_read_back() -> None:
    assert segments.decode(KEY, DATA) == RECORDS


def test_the_header_reads_back_without_the_records() -> None:
    header = segments.decode_header(KEY, DATA, ("u", 1))
    assert header == segments.Header("u", 1, "put", 3, library_version(), TOTALS)


def test_the_header_on_disk_names_run_write_version_and_totals() -> None:
    assert json.loads(DATA.splitlines()[1]) == {
        "run": "u",
        "seq": 1,
        "put_id": "put",
        "records": 3,
        "version": library_version(),
        "totals": {
            "epoch": 1,
            "owner": {"manager": "m1", "incarnation": "i1", "address": "manager-1"},
            "status": "RUNNING",
            "steps": {"COMMITTED": 1, "FAILED": 1},
        },
    }


def test_every_flipped_bit_is_damage_and_reported_with_the_key() -> None:
    for place in range(len(DATA)):
        for bit in (0x01, 0x02, 0x80):
            flipped = bytearray(DATA)
            flipped[place] ^= bit
            for read in (segments.decode, segments.decode_header):
                with pytest.raises(CorruptLogError, match=KEY):
                    read(KEY, bytes(flipped))


def test_every_truncation_is_damage_and_reported_with_the_key() -> None:
    for place in range(len(DATA)):
        with pytest.raises(CorruptLogError, match=KEY):
            segments.decode(KEY, DATA[:place])


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_damage_and_reported_with_the_key(data: bytes) -> None:
    with pytest.raises(CorruptLogError, match=KEY):
        segments.decode(KEY, data)


@pytest.mark.parametrize("place", [("other", 1), ("u", 2)], ids=["another run", "another seq"])
def test_a_segment_at_a_wrong_key_is_damage(place: tuple[str, int]) -> None:
    for read in (segments.decode, segments.decode_header):
        with pytest.raises(CorruptLogError, match="holds segment 1 of run u, which belongs elsewhere"):
            read(KEY, DATA, place)


@pytest.mark.parametrize(
    ("key", "repair"),
    [
        (KEY, "; restore it from a copy"),
        (
            "workflows/w/runs/1-u/snapshot/1",
            "; restore it from a copy, or delete it: the segments of the log contain the same",
        ),
        (
            "index/RUNNING/w",
            "; restore it from a copy, or delete it: workflow.garbage.collect(store) writes it again",
        ),
        ("workflows/index/runs/1-u/log/1", "; restore it from a copy"),
    ],
)
def test_error_about_damage_names_the_repair(key: str, repair: str) -> None:
    error = damaged(key, "it is torn")
    assert str(error) == f"{key} is damaged: it is torn{repair}"
    assert error.fields == {"key": key}


def sealed(body: bytes, format_name: str = segments.FORMAT) -> bytes:
    """An object whose checksum matches."""
    checksum = hashlib.sha256(format_name.encode() + b"\n" + body).hexdigest()
    return f"{format_name} {checksum}\n".encode() + body


def lines(*values: Any) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(sealed(b""), "its content does not", id="empty"),
        pytest.param(sealed(b"{\n"), "its content does not", id="not JSON"),
        pytest.param(sealed(b"[]\n"), "its content does not", id="header is not an object"),
        pytest.param(sealed(b'{"records": 0}\n'), "its content does not", id="header fields missing"),
        pytest.param(sealed(b"\xff\n"), "its content does not", id="not ASCII"),
        pytest.param(sealed(lines(HEADER)), "announces 1 records, but it holds 0", id="record missing"),
        pytest.param(sealed(lines(HEADER, {"k": "StepStarted"})), "not a record", id="record fields missing"),
        pytest.param(sealed(lines(HEADER, STARTED), "rayworkflow-log-0"), "no version wrote the format", id="format 0"),
        pytest.param(
            sealed(lines(HEADER, STARTED), "rayworkflow-log-x"),
            "no version wrote the format",
            id="format without number",
        ),
    ],
)
def test_wrong_content_with_a_matching_checksum_is_damage(data: bytes, says: str) -> None:
    with pytest.raises(CorruptLogError, match=says) as caught:
        segments.decode(KEY, data)
    assert KEY in str(caught.value)
    assert caught.value.key == KEY  # type: ignore[attr-defined]


NEWER = {
    "format": (sealed(lines(HEADER, {"new": 1}), "rayworkflow-log-2"), "format rayworkflow-log-2"),
    "record kind": (sealed(lines(HEADER, {"k": "StepGuessed", "epoch": 1})), "record kind 'StepGuessed'"),
    "record field": (sealed(lines(HEADER, {**STARTED, "guess": 1})), "field 'guess' of StepStarted"),
    "status": (
        sealed(lines(HEADER, {"k": "StatusChanged", "status": "PAUSED", "epoch": 1, "at": 1.0})),
        "WorkflowStatus 'PAUSED'",
    ),
    "field of a nested object": (
        sealed(lines(HEADER, {"k": "Claimed", "epoch": 2, "owner": {"manager": "m", "zone": "z"}, "at": 1.0})),
        "field 'zone' of Owner",
    ),
    "header field": (sealed(lines({**HEADER, "guess": 1}, STARTED)), "field 'guess' of Header"),
    "totals field": (
        sealed(lines({**HEADER, "totals": {"epoch": 1, "guess": 1}}, STARTED)),
        "field 'guess' of RunTotals",
    ),
    "step phase": (
        sealed(
            lines(
                {
                    **HEADER,
                    "totals": {"epoch": 1, "owner": {"manager": "m"}, "status": "RUNNING", "steps": {"PAUSED": 1}},
                },
                STARTED,
            )
        ),
        "StepPhase 'PAUSED'",
    ),
}


@pytest.mark.parametrize("case", NEWER)
def test_unknown_names_are_reported_as_a_newer_version(case: str) -> None:
    data, unknown = NEWER[case]
    with pytest.raises(NewerFormatError) as caught:
        segments.decode(KEY, data)
    text = str(caught.value)
    assert not isinstance(caught.value, CorruptLogError)
    assert f"cannot read {KEY}: it was written by a newer version (rayworkflow 99.1)" in text
    assert f"{unknown} is unknown to rayworkflow {library_version()}; upgrade" in text
    assert (caught.value.key, caught.value.unknown, caught.value.written_by) == (KEY, unknown, "99.1")  # type: ignore[attr-defined]


def test_a_newer_format_with_an_unreadable_header_is_newer() -> None:
    with pytest.raises(NewerFormatError, match=r"a newer version .a version that is not recorded.*rayworkflow-log-3"):
        segments.decode(KEY, sealed(b"\x00\xff", "rayworkflow-log-3"))


def test_a_damaged_object_of_a_newer_format_is_damage() -> None:
    data = sealed(lines(HEADER, STARTED), "rayworkflow-log-2")
    with pytest.raises(CorruptLogError, match="checksum"):
        segments.decode(KEY, data[:-3])


def test_a_segment_written_by_hand_in_format_1_is_read() -> None:
    body = (
        b'{"run":"u","seq":3,"put_id":"p","records":2}\n'
        b'{"k":"Claimed","epoch":2,"owner":{"manager":"m2","incarnation":"i","address":"a"},"at":4.5}\n'
        b'{"k":"StepCommitted","step_id":"a","epoch":2,"value":{"inline":"dg==","size":1},"attempt":2}\n'
    )
    claimed, committed = segments.decode(KEY, sealed(body))
    assert (claimed.epoch, claimed.owner.manager, claimed.retry_failed) == (2, "m2", -1)  # type: ignore[union-attr]
    assert (committed.value.inline, committed.attempt) == (b"v", 2)  # type: ignore[union-attr]
