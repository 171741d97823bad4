"""The size of modules and functions, in all Python of the project, tests too: what is long does two things.

Called by `make check`; `python -m dev.sizes` lists what is too long.
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
ROOMS: Final = ("workflow", "operator", "dev", "tests", "examples")


def too_long(root: Path = paths.ROOT) -> Iterator[str]:
    """Each module and function over the limit, in words.

    Args:
        root: the checkout.
    """
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            yield from _in_module(path.relative_to(root), path.read_text(encoding="utf-8"))


def _in_module(name: Path, text: str) -> Iterator[str]:
    lines = text.count("\n")
    if lines > MODULE_LINES:
        yield f"{name}: {lines} lines, the limit for a module is {MODULE_LINES}: split it by what it does"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{name}:{node.lineno}: {node.name} has {length} lines, the limit is {FUNCTION_LINES}"


def main() -> int:
    """List what is too long."""
    found = list(too_long())
    print("\n".join(found) or f"no module over {MODULE_LINES} lines, no function over {FUNCTION_LINES}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
