"""The bytes of a stored object of the log: a line with format and checksum, a header line, a line of JSON a record.

Segments, snapshots and names share it. Damage is named with its key and nothing of it is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from workflow.errors import CorruptLogError
from workflow.model import codec
from workflow.model.records import Record

FORMAT = "rayworkflow-log-1"

_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, check_circular=False).encode


def encode(run_uuid: str, seq: int, put_id: str, records: Sequence[Record]) -> bytes:
    """The object's bytes.

    Args:
        run_uuid: whose log.
        seq: its place; 0 for a name.
        put_id: the mark of this write, also kept beside the object.
        records: in order.
    """
    lines = [_dumps({"run": run_uuid, "seq": seq, "put_id": put_id, "records": len(records)})]
    lines += [_dumps(codec.encode(record)) for record in records]
    body = ("\n".join(lines) + "\n").encode("ascii")
    return f"{FORMAT} {hashlib.sha256(body).hexdigest()}\n".encode("ascii") + body


def decode(key: str, data: bytes, place: tuple[str, int] | None = None) -> list[Record]:
    """The records of an object.

    Args:
        key: where it lies; for the text of an error.
        data: its bytes.
        place: the run and the seq that it must say itself, where the caller knows them.

    Raises:
        Corrupt: it is torn, altered, of another format or no such object; the text names the key.
    """
    first, _, body = data.partition(b"\n")
    words = first.split(b" ")
    if len(words) != 2 or not words[0].startswith(b"rayworkflow-log-"):
        raise CorruptLogError(f"{key}: not an object of a workflow log; begins with {data[:40]!r}", key=key)
    if words[0] != FORMAT.encode():
        raise CorruptLogError(
            f"{key}: written in format {words[0].decode(errors='replace')}, this version reads {FORMAT}; "
            "use the version of rayworkflow that wrote it, or a newer one",
            key=key,
        )
    if hashlib.sha256(body).hexdigest().encode() != words[1]:
        raise CorruptLogError(f"{key}: damaged: {len(data)} bytes whose checksum does not fit", key=key)
    try:
        lines = body.decode("ascii").splitlines()
        header = json.loads(lines[0])
        records = [codec.decode(json.loads(line)) for line in lines[1:]]
    except (ValueError, IndexError) as error:
        raise CorruptLogError(f"{key}: its checksum fits, its content does not: {error}", key=key) from error
    except CorruptLogError as error:
        raise CorruptLogError(f"{key}: {error}", key=key) from error
    if not isinstance(header, dict):
        raise CorruptLogError(f"{key}: its checksum fits, its content does not: no header", key=key)
    if place is not None and (header.get("run"), header.get("seq")) != place:
        raise CorruptLogError(
            f"{key}: holds segment {header.get('seq')} of run {header.get('run')}, which belongs elsewhere", key=key
        )
    if header.get("records") != len(records):
        raise CorruptLogError(f"{key}: says {header.get('count')} records, holds {len(records)}", key=key)
    return records
