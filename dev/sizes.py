"""Checks the length of all modules and functions of the project, including tests.

A module or function over the limit usually has more than one purpose. `make check` runs `python -m dev.sizes`, which
lists each of them.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dev import paths

MODULE_LINES: Final = 500
FUNCTION_LINES: Final = 50
FOLDERS: Final = ("workflow", "operator", "bench", "dev", "tests", "examples")


def too_long(root: Path = paths.ROOT) -> Iterator[str]:
    """Yield one line of text for each module and function over the limit.

    Args:
        root: the root of the checkout.
    """
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            yield from _in_module(path.relative_to(root), path.read_text(encoding="utf-8"))


def _in_module(name: Path, text: str) -> Iterator[str]:
    lines = text.count("\n")
    if lines > MODULE_LINES:
        yield f"{name}: {lines} lines, the limit for a module is {MODULE_LINES}: split it by purpose"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{name}:{node.lineno}: {node.name} has {length} lines, the limit is {FUNCTION_LINES}: split it"


def main() -> int:
    """Print the modules and functions over the limit, and return 1 if there are any."""
    found = list(too_long())
    print("\n".join(found) or f"no module over {MODULE_LINES} lines, no function over {FUNCTION_LINES}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
