"""The bytes of the objects that hold records: segments, snapshots and registry entries. See docs/design/log-format.md.

An object is a line with the format and a checksum, a header line, and one line of JSON for each record. Damage is
reported with its key, and nothing of a damaged object is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from workflow.errors import CorruptLogError, NewerFormatError
from workflow.log.damage import damaged
from workflow.log.version import library_version
from workflow.model import codec
from workflow.model.records import Record
from workflow.model.totals import RunTotals

FORMAT_NAME: Final = "rayworkflow-log-"
FORMAT_NUMBER: Final = 1
"""Increased if an older version could misread an object without noticing; docs/design/log-format.md has the rules."""

FORMAT: Final = f"{FORMAT_NAME}{FORMAT_NUMBER}"

_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, check_circular=False).encode


@dataclass(frozen=True, slots=True)
class Header:
    """The second line of an object.

    Attributes:
        run: uuid of the run; empty for a tombstone.
        seq: number of the segment or snapshot; 0 for a registry entry.
        put_id: random id of the write, which is also stored beside the object.
        records: number of records.
        version: version of the library that wrote the object.
        totals: of the run after the records of this segment; only segments have them.
    """

    run: str
    seq: int
    put_id: str
    records: int
    version: str = ""
    totals: RunTotals | None = None


def encode(run_uuid: str, seq: int, put_id: str, records: Sequence[Record], totals: RunTotals | None = None) -> bytes:
    """Return the bytes of an object; the arguments are explained at `Header`."""
    header = Header(run_uuid, seq, put_id, len(records), library_version(), totals)
    lines = [_dumps(codec.encode_value(header))]
    lines += [_dumps(codec.encode(record)) for record in records]
    body = ("\n".join(lines) + "\n").encode("ascii")
    return f"{FORMAT} {_checksum(FORMAT.encode('ascii'), body)}\n".encode("ascii") + body


def decode(key: str, data: bytes, place: tuple[str, int] | None = None) -> list[Record]:
    """Return the records of an object.

    Args:
        key: the key of the object, for error messages.
        data: its bytes.
        place: the uuid of the run and the seq that the header must contain, if the caller knows them.

    Raises:
        CorruptLogError: the object is damaged, or it is not an object of a log.
        NewerFormatError: a newer version of the library wrote it, in a way that this version cannot read.
    """
    header, lines = _open(key, data, place)
    records: list[Record] = []
    try:
        for line in lines:
            records.append(codec.decode(json.loads(line)))
    except codec.UnknownNameError as error:
        raise newer(key, str(error), header.version) from error
    except ValueError as error:
        _refuse_content(key, error)
    except CorruptLogError as error:
        raise damaged(key, str(error)) from error
    if header.records != len(records):
        raise damaged(key, f"its header announces {header.records} records, but it holds {len(records)}")
    return records


def decode_header(key: str, data: bytes, place: tuple[str, int] | None = None) -> Header:
    """Return the header of an object without decoding its records. Arguments and errors are those of `decode`."""
    return _open(key, data, place)[0]


def newer(key: str, unknown: str, version: str) -> NewerFormatError:
    """Return the error for an object that this version is too old to read.

    Args:
        key: the key of the object.
        unknown: what this version does not know.
        version: the version that wrote the object; empty if it is not recorded.
    """
    wrote = f"rayworkflow {version}" if version else "a version that is not recorded"
    return NewerFormatError(
        f"cannot read {key}: it was written by a newer version ({wrote}), and {unknown} is unknown to rayworkflow "
        f"{library_version()}; upgrade rayworkflow here to that version or a later one",
        key=key,
        unknown=unknown,
        written_by=version,
    )


def _open(key: str, data: bytes, place: tuple[str, int] | None) -> tuple[Header, list[str]]:
    """Check an object and split it into its header and the lines of its records."""
    first, _, body = data.partition(b"\n")
    words = first.split(b" ")
    if len(words) != 2 or not words[0].startswith(FORMAT_NAME.encode()):
        raise damaged(key, f"it is not an object of a log, but begins with {data[:40]!r}")
    if _checksum(words[0], body).encode() != words[1]:
        raise damaged(key, f"the checksum of its {len(data)} bytes does not match")
    _check_format(key, words[0].decode("ascii", "replace"), body)
    try:
        lines = body.decode("ascii").splitlines()
        fields = json.loads(lines[0])
        header = codec.decode_value(Header, fields)
    except codec.UnknownNameError as error:
        raise newer(key, str(error), _version_in(fields)) from error
    except (ValueError, IndexError, CorruptLogError) as error:
        _refuse_content(key, error)
    if place is not None and (header.run, header.seq) != place:
        raise damaged(key, f"it holds segment {header.seq} of run {header.run}, which belongs elsewhere")
    return header, lines[1:]


def _check_format(key: str, name: str, body: bytes) -> None:
    """Raise the error of an object in another format. Its checksum matches, so its format was really written."""
    if name == FORMAT:
        return
    number = name.removeprefix(FORMAT_NAME)
    if number.isdecimal() and int(number) > FORMAT_NUMBER:
        try:  # the header line has a version in every format
            fields = json.loads(body.partition(b"\n")[0])
        except ValueError:
            fields = None
        raise newer(key, f"format {name}", _version_in(fields))
    raise damaged(key, f"no version wrote the format {name!r}")


def _version_in(fields: Any) -> str:
    version = fields.get("version") if isinstance(fields, dict) else None
    return version if isinstance(version, str) else ""


def _refuse_content(key: str, error: Exception) -> NoReturn:
    raise damaged(key, f"its checksum matches, but its content does not ({error})") from error


def _checksum(format_name: bytes, body: bytes) -> str:
    """Cover the format too, so that damage to its number is not taken for a newer format."""
    digest = hashlib.sha256(format_name)
    digest.update(b"\n")
    digest.update(body)
    return digest.hexdigest()
