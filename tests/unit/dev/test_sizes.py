"""The size check reports each oversized module and function with its location."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.sizes import too_long


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1\n" * 500, []),
        ("x = 1\n" * 501, ["dev/it.py: 501 lines"]),
        ("def f():\n" + "    x = 1\n" * 49, []),
        ("def f():\n" + "    x = 1\n" * 50, ["dev/it.py:1: f has 51 lines"]),
        ("class A:\n    async def g(self):\n" + "        x = 1\n" * 50, ["dev/it.py:2: g has 51 lines"]),
    ],
    ids=["module-fits", "module", "function-fits", "function", "method"],
)
def test_oversized_code_is_reported(tmp_path: Path, text: str, expected: list[str]) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "it.py").write_text(text)
    found = list(too_long(tmp_path))
    assert len(found) == len(expected)
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True))
