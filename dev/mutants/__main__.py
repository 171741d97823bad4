"""`python -m dev.mutants`: the command of `make mutants`."""

from __future__ import annotations

import argparse
import concurrent.futures
import queue
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dev import paths
from dev.console import print_line, stage
from dev.mutants import equivalents, making, report, running, warm
from dev.mutants.mutant import UNWANTED, Key, Mutant, Verdict
from dev.mutants.selection import Baseline, choose_tests, shuffled

SCOPE: Final = {
    "workflow/model/graph.py": ("tests/unit/model", "tests/unit/test_options.py", "tests/unit/test_composed_steps.py"),
    "workflow/model": ("tests/unit/model",),
    "workflow/log": ("tests/unit/log",),
    "workflow/requests.py": ("tests/unit/log",),
    "workflow/garbage.py": ("tests/unit/log",),
    "operator/workflow_operator/core": ("tests/unit/operator",),
}
"""The modules that are tested by default, and the tests of each of them. The first matching line counts."""

PROGRESS: Final = 100
"""After this many mutants a progress line is printed."""


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of a command line."""
    parser = argparse.ArgumentParser(prog="python -m dev.mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", default=list(SCOPE), help="modules or folders; default: all pure ones")
    parser.add_argument("--minutes", type=float, default=30.0, help="no mutant is started after this time")
    parser.add_argument("--tests", nargs="+", help="test folders or files; default: the unit tests of the modules")
    parser.add_argument("--seed", type=int, default=0, help="decides the order of the mutants")
    parser.add_argument("--workers", type=int, default=2, help="mutants at the same time")
    parser.add_argument("--only", default="", help="ids of mutants, separated by commas")
    return parser.parse_args(arguments)


def modules_of(names: Sequence[str]) -> list[str]:
    """Return the modules in the given files and folders, by their paths from the root of the checkout."""
    chosen = [paths.ROOT / name for name in names]
    files = [file for path in chosen for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    return list(dict.fromkeys(str(file.relative_to(paths.ROOT)) for file in files))


def folders_of(modules: Sequence[str]) -> list[str]:
    """Return the tests of the modules. For a module outside of the scope these are all unit tests."""
    found: dict[str, None] = {}
    for module in modules:
        areas = [tests for area, tests in SCOPE.items() if Path(module).is_relative_to(area)]
        found.update(dict.fromkeys(areas[0] if areas else ("tests/unit",)))
    return list(found)


class Run:
    """One run: mutants, tests and copies of the checkout.

    Attributes:
        verdicts: the tested mutants.
        seconds: how long the tests of the mutants of each module took.
    """

    def __init__(
        self, measured: Baseline, copies: Sequence[tuple[Path, warm.Client]], reasons: dict[Key, str], deadline: float
    ) -> None:
        """Start with no verdict.

        Args:
            measured: the tests of each line.
            copies: for each worker one copy of the checkout, and the process that collected its tests.
            reasons: the list of equivalent mutants.
            deadline: no mutant is started after this time of the monotonic clock.
        """
        self.verdicts: dict[Key, Verdict] = {}
        self.seconds: dict[str, float] = defaultdict(float)
        self._measured = measured
        self._copies: queue.SimpleQueue[tuple[Path, warm.Client]] = queue.SimpleQueue()
        for copy in copies:
            self._copies.put(copy)
        self._reasons = reasons
        self._deadline = deadline

    def test(self, mutant: Mutant) -> None:
        """Test one mutant if there is time, and print it if the list has to change."""
        if time.monotonic() > self._deadline:
            return
        tests = choose_tests(mutant, self._measured)
        started = time.monotonic()
        found = self._verdict(mutant, tests) if tests else Verdict.UNTESTED
        self.seconds[mutant.key.module] += time.monotonic() - started
        if mutant.key in self._reasons:
            found = Verdict.EQUIVALENT if found is Verdict.SURVIVED else Verdict.WRONGLY_LISTED
        self.verdicts[mutant.key] = found
        if not len(self.verdicts) % PROGRESS:
            print_line(f"  ..  tested {len(self.verdicts)} mutants")
        if found in UNWANTED:
            place = f"{mutant.key.module}:{mutant.lines.start}, id {mutant.key.id}, {len(tests)} tests"
            print_line(f"\n# {found.value}: {place}\n{equivalents.entry(mutant.key)}")

    def _verdict(self, mutant: Mutant, tests: Sequence[str]) -> Verdict:
        """Return the verdict. A new process tests a mutant that the process that is ready cannot judge."""
        seconds = {test: self._measured.seconds[test] for test in tests}
        copy, client = self._copies.get()
        try:
            with running.placed(copy, mutant) as before:
                limits = {test: running.time_limit(used) for test, used in seconds.items()}
                found = client.verdict(mutant, before, limits)
                if found is None or (found is Verdict.SURVIVED and self._measured.is_early(mutant)):
                    return running.verdict(copy, tests, sum(seconds.values()))
                return found
        finally:
            self._copies.put((copy, client))


def main(arguments: Sequence[str]) -> int:
    """Test mutants until none or no time is left. Return 1 if the tests or the list have to change."""
    options = parsed(arguments)
    modules = modules_of(options.modules)
    reasons = equivalents.load()
    with stage(f"make the mutants of {len(modules)} modules"):
        made = [mutant for name in modules for mutant in making.mutants(name, (paths.ROOT / name).read_text())]
    keys = [mutant.key for mutant in made]
    only = set(filter(None, options.only.split(",")))
    chosen = [mutant for mutant in shuffled(made, options.seed) if not only or mutant.key.id in only]
    scratch = Path(tempfile.mkdtemp(prefix="rayworkflow-mutants-"))
    try:
        tests = options.tests or folders_of(modules)
        measured, copies = _measured(modules, tests, scratch, options.workers)
    except running.BaselineError as failed:
        print_line(f"FAIL  {failed}")
        return 1
    with stage("collect the tests once for each worker"):
        ready = [(copy, running.collected(copy, tests)) for copy in copies]
    run = Run(measured, ready, reasons, time.monotonic() + 60 * options.minutes)
    with (
        stage(f"test {len(chosen)} mutants in at most {options.minutes:g} minutes"),
        concurrent.futures.ThreadPoolExecutor(max_workers=options.workers) as pool,
    ):
        list(pool.map(run.test, chosen))
    for _, client in ready:
        client.close()
    shutil.rmtree(scratch)
    outdated = equivalents.outdated(reasons, keys, modules)
    for key in outdated:
        print_line(f"\n# listed, but no longer made; remove it from {equivalents.FILE.name}\n{equivalents.entry(key)}")
    print_line(f"\n{report.table(run.verdicts, keys, run.seconds)}")
    return 1 if outdated or UNWANTED & set(run.verdicts.values()) else 0


def _measured(
    modules: Sequence[str], tests: Sequence[str], scratch: Path, workers: int
) -> tuple[Baseline, Sequence[Path]]:
    """Return what the tests execute, and one copy of the checkout for each worker."""
    copies = [scratch / f"copy-{number}" for number in range(workers)]
    with stage(f"run {' '.join(tests)} without a mutant"):
        running.copy_checkout(copies[0])
        measured = running.baseline(copies[0], modules, tests)
    for cached in (cached for module in modules for cached in (copies[0] / module).parent.rglob("__pycache__/*")):
        cached.unlink()
    for copy in copies[1:]:
        shutil.copytree(copies[0], copy)
    return measured, copies


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
