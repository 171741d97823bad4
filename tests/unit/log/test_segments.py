"""Bytes of the log: what was written reads back, and every damage is named with its key."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import runs
from workflow.errors import CorruptLogError
from workflow.log import segments
from workflow.model.records import Record

KEY = "workflows/w/runs/1-u/log/00000000000000000001"
RECORDS: list[Record] = [runs.started("a"), runs.committed("a", text="ünïcode\n\x00 \u2028"), runs.failed("b")]
DATA = segments.encode("u", 1, "put", RECORDS)


def test_records_read_back() -> None:
    assert segments.decode(KEY, DATA) == RECORDS


def test_every_byte_flipped_is_named() -> None:
    for place in range(len(DATA)):
        for bit in (0x01, 0x80):
            torn = bytearray(DATA)
            torn[place] ^= bit
            with pytest.raises(CorruptLogError, match=KEY):
                segments.decode(KEY, bytes(torn))


def test_torn_at_every_byte_is_named() -> None:
    for place in range(len(DATA)):
        with pytest.raises(CorruptLogError, match=KEY):
            segments.decode(KEY, DATA[:place])


@given(st.binary(max_size=200))
def test_what_is_no_segment_is_named(data: bytes) -> None:
    with pytest.raises(CorruptLogError, match=KEY):
        segments.decode(KEY, data)


@pytest.mark.parametrize("place", [("other", 1), ("u", 2)], ids=["another run's", "another place"])
def test_a_segment_in_anothers_place_is_named(place: tuple[str, int]) -> None:
    with pytest.raises(CorruptLogError, match="holds segment 1 of run u, which belongs elsewhere"):
        segments.decode(KEY, DATA, place)


def resealed(body: bytes, version: str = segments.FORMAT) -> bytes:
    """An object whose checksum fits."""
    return f"{version} {hashlib.sha256(body).hexdigest()}\n".encode() + body


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(resealed(b"", "rayworkflow-log-9"), "use the version of rayworkflow", id="newer format"),
        pytest.param(resealed(b""), "its content does not", id="nothing in it"),
        pytest.param(resealed(b"{\n"), "its content does not", id="no JSON"),
        pytest.param(resealed(b"[]\n"), "its content does not", id="a header that is none"),
        pytest.param(resealed(b'{"records": 2}\n'), "says 2 records, holds 0", id="records missing"),
        pytest.param(
            resealed(b'{"records": 1}\n{"k": "New"}\n'), "not a record this version knows", id="unknown record"
        ),
        pytest.param(resealed(b"\xff\n"), "its content does not", id="not ASCII"),
    ],
)
def test_a_fitting_checksum_does_not_make_a_segment(data: bytes, says: str) -> None:
    with pytest.raises(CorruptLogError, match=says) as caught:
        segments.decode(KEY, data)
    assert KEY in str(caught.value)


def test_a_golden_segment_of_this_format_reads_for_ever() -> None:
    body = (
        b'{"run":"u","seq":3,"put_id":"p","records":2}\n'
        b'{"k":"Claimed","epoch":2,"owner":{"manager":"m2","incarnation":"i","address":"a"},"at":4.5}\n'
        b'{"k":"StepCommitted","step_id":"a","epoch":2,"value":{"inline":"dg==","size":1},"attempt":2}\n'
    )
    claimed, committed = segments.decode(KEY, resealed(body))
    assert (claimed.epoch, claimed.owner.manager, claimed.retry_failed) == (2, "m2", -1)  # type: ignore[union-attr]
    assert (committed.value.inline, committed.attempt) == (b"v", 2)  # type: ignore[union-attr]


def test_the_header_says_whose_it_is() -> None:
    header = json.loads(DATA.splitlines()[1])
    assert header == {"run": "u", "seq": 1, "put_id": "put", "records": 3}
