"""The design notes and the glossary: complete, numbered, in order, and linked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DESIGN = ROOT / "docs" / "design"
REFERENCES = {"README.md", "log-format.md"}
NOTES = sorted(path for path in DESIGN.glob("*.md") if path.name not in REFERENCES)
HEADINGS = ["Context", "Decision", "Alternatives rejected", "Consequences"]


def test_notes_are_numbered_without_gaps() -> None:
    assert [path.name[:5] for path in NOTES] == [f"{number:04}-" for number in range(1, len(NOTES) + 1)]


@pytest.mark.parametrize("note", NOTES, ids=lambda note: str(note.stem))
def test_a_note_has_its_parts_and_fits_on_a_page(note: Path) -> None:
    text = note.read_text()
    assert text.startswith(f"# {note.name[:4]}: ")
    assert re.search(r"^Status: (accepted|superseded by [0-9]{4})$", text, flags=re.MULTILINE)
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == HEADINGS
    assert len(text.splitlines()) <= 80


def test_the_index_lists_every_note() -> None:
    listed = re.findall(r"^\| \[([0-9]{4})\]\(([^)]+)\) \|", (DESIGN / "README.md").read_text(), flags=re.MULTILINE)
    assert listed == [(note.name[:4], note.name) for note in NOTES]


def test_the_glossary_defines_each_term_once_in_order() -> None:
    rows = (ROOT / "docs" / "glossary.md").read_text().splitlines()
    terms = [row.split("**")[1] for row in rows if row.startswith("| **")]
    assert len(terms) >= 40
    assert terms == sorted(set(terms))
