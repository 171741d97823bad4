"""`python -m dev.prose [PATH...]`: list what breaks the rules of language, in the given paths or the whole checkout."""

from __future__ import annotations

import argparse
import ast
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from dev import paths
from dev.prose import forms, markup, python_source, rules
from dev.prose.blocks import Finding

_LEFT_OUT: Final = (
    "LICENSE",
    "charts/rayworkflow-crds/files/",  # a copy of crds/, which is checked
    "dev/styles/RayWorkflow/",  # the rules contain what they forbid, and so does their test
    "tests/unit/dev/test_prose.py",
    "tests/unit/log/golden/",  # stored logs and pickles
)

_NO_SOURCE: Final = ("__pycache__", "build", "dist")
_HIDDEN: Final = (".ci", ".github")
"""Hidden folders that contain source."""


def files(root: Path, chosen: Iterable[Path]) -> Iterator[Path]:
    """List the files of a checkout that contain prose.

    Args:
        root: the checkout.
        chosen: files and folders; none means the whole checkout.
    """
    for start in [root / path for path in chosen] or [root]:
        for path in _walk(start) if start.is_dir() else [start]:
            name = path.relative_to(root).as_posix()
            if path.is_file() and not name.startswith(_LEFT_OUT):
                yield Path(name)


def _walk(folder: Path) -> Iterator[Path]:
    """List the files below a folder, without entering folders that hold no source."""
    for path in sorted(folder.iterdir()):
        if not path.is_dir():
            yield path
        elif not _is_skipped(path.name):
            yield from _walk(path)


def _is_skipped(folder: str) -> bool:
    """Whether a folder holds no source, for example caches. Git is not used: a checkout may lack it."""
    return folder in _NO_SOURCE or folder.endswith(".egg-info") or (folder.startswith(".") and folder not in _HIDDEN)


def check(path: Path, text: str, style: rules.Style) -> list[Finding]:
    """Apply all rules to one file.

    Args:
        path: the file's name in the checkout, which decides how it is read.
        text: the file's content.
        style: the rules on words and sentences.
    """
    found: list[Finding] = []
    if path.suffix == ".py":
        tree = ast.parse(text)
        blocks = list(python_source.blocks(text, tree))
        found += forms.docstrings(tree)
        if path.parts[0] == "tests":
            found += forms.test_names(tree)
        else:
            found += (finding for block in blocks for finding in forms.errors(block))
    else:
        blocks = list(markup.blocks(path, text))
    found += style.findings(path, blocks)
    return sorted(set(found), key=lambda finding: (finding.line, finding.rule, finding.message))


def main() -> int:
    """Print the findings; the exit code is 1 if one of them is an error."""
    parser = argparse.ArgumentParser(prog="python -m dev.prose", description=main.__doc__)
    parser.add_argument("paths", nargs="*", type=Path, help="files and folders in the checkout; default: all")
    parser.add_argument("--root", type=Path, default=paths.ROOT, help="the checkout; default: the one of this program")
    parser.add_argument("--warnings", action="store_true", help="print warnings too")
    parser.add_argument("--summary", action="store_true", help="print numbers by rule instead of findings")
    options = parser.parse_args()
    style, counts, failed = rules.load(), Counter[str](), 0
    root = options.root.resolve()
    chosen = list(files(root, options.paths))
    if not chosen:
        parser.error(f"no file in {root} matches {', '.join(map(str, options.paths))}: give paths below that folder")
    for path in chosen:
        for finding in check(path, (root / path).read_text(encoding="utf-8"), style):
            if not (options.warnings or finding.error):
                continue
            failed += finding.error
            counts[finding.rule] += 1
            if not options.summary:
                print(f"{path}:{finding.line}: {'' if finding.error else 'warning: '}{finding.rule}: {finding.message}")
    for rule, count in counts.most_common():
        print(f"{count:>6}  {rule}")
    print(f"{failed} errors")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
