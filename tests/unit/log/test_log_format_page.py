"""docs/design/log-format.md is complete: every key, record, field and name occurs there, and its examples decode."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.log.test_stored_names import OWN
from workflow.log import keys, parts, pickled, segments, stored_names
from workflow.log.blobs import INLINE_LIMIT
from workflow.log.keys import RunPaths
from workflow.model import codec
from workflow.model.graph import Graph, StepKind, StepOptions, StepSpec, Value, WaitOptions
from workflow.model.program import Program
from workflow.model.run_view import ErrorInfo, Owner
from workflow.model.status import StepPhase, WorkflowStatus
from workflow.model.totals import RunTotals

PAGE = (Path(__file__).parents[3] / "docs" / "design" / "log-format.md").read_text()
PROSE = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
CODED = set(re.findall(r"`([^`]+)`", PROSE))
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##)", PAGE, flags=re.DOTALL | re.MULTILINE))
EXAMPLES = [json.loads(text) for text in re.findall(r"^```json\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)]


def fields_of(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


@pytest.mark.parametrize("kind", sorted(codec.KINDS))
def test_each_record_has_a_section_with_all_its_fields(kind: str) -> None:
    described = set(re.findall(r"`(\w+)`", re.sub(r"```.*?```", "", SECTIONS[kind], flags=re.DOTALL)))
    assert fields_of(codec.KINDS[kind]) <= described


@pytest.mark.parametrize(
    "part",
    [Owner, Program, ErrorInfo, Value, Graph, StepSpec, StepOptions, WaitOptions],
    ids=lambda part: part.__name__,
)
def test_each_part_of_records_is_described_with_all_its_fields(part: Any) -> None:
    rows = PROSE.partition("## Parts of records")[2].partition("\nA blob")[0].splitlines()
    start = next(number for number, row in enumerate(rows) if row.startswith(f"| `{part.__name__}`"))
    end = next((n for n in range(start + 1, len(rows)) if rows[n].startswith("| `")), len(rows))
    assert fields_of(part) <= set(re.findall(r"`(\w+)`", "\n".join(rows[start:end])))


def test_all_header_fields_and_enum_values_are_named() -> None:
    names = fields_of(segments.Header) | fields_of(RunTotals)
    names |= {member.value for kind in (StepPhase, WorkflowStatus, StepKind) for member in kind}
    assert names <= CODED


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: str(example["k"]))
def test_each_example_of_a_record_decodes_and_encodes_to_itself(example: dict[str, Any]) -> None:
    record = codec.decode(example)
    assert codec.decode(codec.encode(record)) == record


def test_there_is_an_example_of_each_record_and_of_a_header() -> None:
    assert {example["k"] for example in EXAMPLES} == set(codec.KINDS)
    (header,) = re.findall(r"^```json header\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert codec.decode_value(segments.Header, json.loads(header)).totals is not None


def test_the_examples_together_use_every_field_of_every_record() -> None:
    used: dict[str, set[str]] = {}
    for example in EXAMPLES:
        used.setdefault(example["k"], set()).update(example)
    missing = {name: fields_of(kind) - used[name] for name, kind in codec.KINDS.items()}
    assert {name: fields for name, fields in missing.items() if fields} == {
        "Created": {"graph_blob"},
        "StepExpanded": {"graph", "attempt"},
        "StepReturnedEphemeral": {"attempt"},
        "Tombstone": {"error"},
    }, "each record has one of graph and graph_blob; a default value is left out"


def test_every_key_is_listed() -> None:
    run = RunPaths("<id>", 1, "<run uuid>")
    built = [
        keys.registry_entry("<id>", 1),
        run.segment(1),
        run.snapshot(1),
        run.blob("<sha256>"),
        run.request("<request id>"),
        run.driver_log("<submission id>"),
        keys.notification("<run uuid>", "<request id>"),
        keys.owned("<manager>", "<run uuid>"),
        keys.heartbeat("<manager>"),
        keys.index("<status>", "<id>"),
    ]
    listed = {name for name in CODED if re.match(r"(workflows|notifications|owned|managers|index)/", name)}
    assert listed == {
        key.replace(keys.escape("<id>"), "<id>")
        .replace("registry/0000000001", "registry/<n>")
        .replace("00000000000000000001", "<seq>")
        .replace("/1-", "/<run number>-")
        for key in built
    }


def test_constants_of_the_page_are_those_of_the_code() -> None:
    assert segments.FORMAT in CODED
    assert f"exceeds {keys.LONGEST_PART} bytes, it is its first {keys.KEPT_OF_LONG} bytes, `{keys.CUT}`" in PAGE
    assert f"a pickle up to {INLINE_LIMIT // 1024} KiB" in PAGE
    assert pickled._MAGIC == b"rwf-buf\n"
    assert parts.FORMAT.decode() in CODED
    assert parts._FIELDS <= CODED
    assert f"of at least {pickled.OUT_OF_BAND_LIMIT >> 20} MiB is a part" in PAGE
    assert f"the pickle has at least {pickled.SPLIT_FROM >> 20} MiB" in PAGE
    assert "multiple of 64" in PAGE
    assert pickled._ALIGNMENT == 64


def test_every_stored_name_is_listed() -> None:
    assert OWN <= CODED
    assert set(stored_names.PUBLIC_MODULES) - {"workflow"} <= CODED
