"""Release notes: every fragment in changes/ is well named, and towncrier includes it in the changelog."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHANGES = ROOT / "changes"
TYPES = re.findall(r"^\| `([a-z]+)` \|", (CHANGES / "README.md").read_text(), flags=re.MULTILINE)
NAME = re.compile(rf"(\+[a-z0-9]+(-[a-z0-9]+)*|[1-9][0-9]*)\.({'|'.join(TYPES)})\.md")


def fragments() -> list[Path]:
    return sorted(path for path in CHANGES.iterdir() if path.name != "README.md")


def towncrier(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "towncrier", "build", "--dir", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A copy of the release notes and their configuration, without any fragment."""
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "changes").mkdir()
    return tmp_path


def test_fragments_are_well_named() -> None:
    wrong = [path.name for path in fragments() if not NAME.fullmatch(path.name)]
    assert not wrong, "name them +<topic>.<type>.md or <issue number>.<type>.md, see changes/README.md"


def test_fragments_hold_one_short_paragraph() -> None:
    for path in fragments():
        text = path.read_text()
        assert text == text.strip() + "\n", f"{path.name}: one paragraph and one newline at the end"
        assert "\n\n" not in text
        assert len(text.split()) <= 70, f"{path.name}: at most 70 words"


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("+resume-all.fixed.md", True),
        ("17.added.md", True),
        ("resume-all.fixed.md", False),
        ("+Resume.fixed.md", False),
        ("+resume-all.bugfix.md", False),
        ("+resume-all.md", False),
    ],
)
def test_which_names_are_accepted(name: str, valid: bool) -> None:
    assert bool(NAME.fullmatch(name)) is valid


def test_towncrier_includes_every_fragment() -> None:
    drafted = towncrier(ROOT, "--draft")
    assert drafted.returncode == 0, drafted.stderr
    assert [path.name for path in fragments() if path.read_text().strip() not in drafted.stdout] == []


def test_a_release_inserts_the_notes_below_the_marker(scratch: Path) -> None:
    for each in TYPES:
        (scratch / "changes" / f"+some-{each}.{each}.md").write_text(f"Something is {each}.\n")
    before = (scratch / "CHANGELOG.md").read_text()
    done = towncrier(scratch, "--yes", "--version", "9.9.9", "--date", "2030-01-02")
    assert done.returncode == 0, done.stderr
    marker = "<!-- towncrier release notes start -->\n"
    head, _, older = before.partition(marker)
    after = (scratch / "CHANGELOG.md").read_text()
    assert after.startswith(f"{head}{marker}\n## 9.9.9 (2030-01-02)\n\n### Security\n\n- Something is security.\n")
    assert all(f"\n### {each.capitalize()}\n\n- Something is {each}.\n" in after for each in TYPES)
    assert after.endswith(older)
