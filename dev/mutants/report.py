"""Formats the result of a run: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from dev.mutants.mutant import Key, Verdict

SECONDS = "seconds"


def table(verdicts: Mapping[Key, Verdict], made: Sequence[Key], seconds: Mapping[str, float]) -> str:
    """Return one line for each module, and a line with the sums.

    Args:
        verdicts: the mutants that were tested.
        made: all mutants, including those for which no time was left.
        seconds: how long the tests of the mutants of each module took.
    """
    modules = sorted({key.module for key in made})
    width = max([len(module) for module in modules] + [len("module")])
    heading = "  ".join(["module".ljust(width), "tested", "   of", *(verdict.value for verdict in Verdict), SECONDS])
    rows = [_row(module, width, verdicts, made, seconds, module) for module in modules]
    return "\n".join([heading, *rows, _row("all", width, verdicts, made, seconds, None)])


def _row(
    name: str,
    width: int,
    verdicts: Mapping[Key, Verdict],
    made: Sequence[Key],
    seconds: Mapping[str, float],
    module: str | None,
) -> str:
    counts = Counter(verdict for key, verdict in verdicts.items() if module in (None, key.module))
    total = sum(1 for key in made if module in (None, key.module))
    cells = [str(counts[verdict]).rjust(len(verdict.value)) for verdict in Verdict]
    duration = sum(each for of_module, each in seconds.items() if module in (None, of_module))
    cells.append(f"{duration:.0f}".rjust(len(SECONDS)))
    return "  ".join([name.ljust(width), str(counts.total()).rjust(6), str(total).rjust(5), *cells])
