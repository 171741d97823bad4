"""The list of mutants that change nothing: pure, except for `load`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from dev.mutants.mutant import Key

FILE: Final = Path(__file__).with_name("equivalents.yaml")


class InvalidListError(Exception):
    """An entry of the list cannot be used. The message contains the entry and its fault."""


def load() -> dict[Key, str]:
    """Return the reason for each listed mutant.

    Raises:
        InvalidListError: an entry is incomplete or a duplicate.
    """
    return read(FILE.read_text(encoding="utf-8"))


def read(text: str) -> dict[Key, str]:
    """Return the reason for each mutant that a text lists.

    Args:
        text: YAML, as in the file.

    Raises:
        InvalidListError: an entry is incomplete or a duplicate.
    """
    return parse(yaml.safe_load(text) or [])


def parse(entries: list[dict[str, Any]]) -> dict[Key, str]:
    """Return the reason for each listed mutant.

    Args:
        entries: the content of the file: mappings with `module`, `function`, `diff` and `reason`.

    Raises:
        InvalidListError: an entry is incomplete or a duplicate.
    """
    reasons: dict[Key, str] = {}
    for entry in entries:
        if set(entry) != {"module", "function", "diff", "reason"} or not all(entry.values()):
            raise InvalidListError(f"{entry} needs text for exactly: module, function, diff, reason")
        key = Key(entry["module"], entry["function"], entry["diff"].strip())
        if key in reasons:
            raise InvalidListError(f"{entry} is listed twice: remove one of the entries")
        reasons[key] = entry["reason"]
    return reasons


def outdated(reasons: Mapping[Key, str], made: Collection[Key], modules: Collection[str]) -> list[Key]:
    """Return the listed mutants of these modules that are not made any more.

    Args:
        reasons: the list.
        made: all mutants of the modules.
        modules: the modules, by their paths.
    """
    known = set(made)
    return [key for key in reasons if key.module in modules and key not in known]


def entry(key: Key) -> str:
    """Return the entry for a mutant as text for the file. The reason is left to be written."""
    lines = "\n".join(f"    {line}" for line in key.diff.splitlines())
    return f"- module: {key.module}\n  function: {key.function}\n  diff: |\n{lines}\n  reason: "
