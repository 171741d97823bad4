"""Runs tests with and without a mutant, in copies of the checkout.

A fork server imports the libraries once. Each run is a process that it forks, so a run imports only the project itself.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, settings

from dev import paths
from dev.mutants import warm
from dev.mutants.mutant import Mutant, Verdict
from dev.mutants.selection import Baseline

FORK_SERVER: Final = multiprocessing.get_context("forkserver")
OWN: Final = ("workflow", "workflow_operator", "tests", "dev", "__main__", "__mp_main__")
START_SECONDS: Final = 30.0
SPARE_SECONDS: Final = 20.0
SLOWNESS: Final = 10.0
"""A test times out after `SPARE_SECONDS`, plus this many times its CPU time without a mutant.

A process of its own has `START_SECONDS` more, in which it imports the project and collects the tests.
"""

OPTIONS: Final = ("-q", "-x", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")


class BaselineError(Exception):
    """The tests fail without a mutant. The message names the log."""


class Recorder:
    """A plugin of pytest that records which test executed which line, and how much CPU time each test used.

    CPU time depends less on what else the machine does than the duration.
    """

    def __init__(self, measured: Any) -> None:
        """Remember the running measurement of coverage.py."""
        self.measured = measured
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Record the lines that are executed until the test ends, with its fixtures."""
        self.measured.switch_context(item.nodeid)
        before = _cpu_seconds()
        yield
        self.seconds[item.nodeid] = _cpu_seconds() - before
        self.measured.switch_context("")


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of the child processes that it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


class Chosen:
    """A plugin of pytest that keeps only the given tests, in their order."""

    def __init__(self, tests: Sequence[str]) -> None:
        """Remember the node ids of the tests."""
        self.order = {test: number for number, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Drop the other tests."""
        items[:] = sorted((item for item in items if item.nodeid in self.order), key=lambda i: self.order[i.nodeid])


def copy_checkout(target: Path) -> None:
    """Copy all files that git knows or would add.

    Raises:
        subprocess.CalledProcessError: git failed.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (paths.ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(paths.ROOT / name, target / name)


def baseline(copy: Path, modules: Sequence[str], tests: Sequence[str]) -> Baseline:
    """Run the tests without a mutant. The libraries that they import are imported by the fork server from now on.

    Args:
        copy: a copy of the checkout.
        modules: the modules whose lines are recorded.
        tests: the test folders or files.

    Raises:
        BaselineError: a test failed.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    log = copy.with_suffix(".log")
    process = multiprocessing.get_context("spawn").Process(
        target=_in_copy, args=(copy, log, _measure, copy, tuple(modules), tuple(tests), sender)
    )
    process.start()
    sender.close()
    with contextlib.suppress(EOFError):
        found, libraries = receiver.recv()
        process.join()
        FORK_SERVER.set_forkserver_preload([*libraries, "dev.mutants.running"])
        assert isinstance(found, Baseline)
        return found
    raise BaselineError(f"the tests fail without a mutant; repair them first, see {log}")


def _measure(copy: Path, modules: tuple[str, ...], tests: tuple[str, ...], sender: Connection) -> int:
    import coverage  # an optional tool, and only this process needs it

    measured = coverage.Coverage(data_file=None, include=[str(copy / module) for module in modules], config_file=False)
    recorder = Recorder(measured)
    measured.start()
    code = pytest.main([*_options(), *tests], plugins=[recorder])
    measured.stop()
    if code == pytest.ExitCode.OK:
        data = measured.get_data()
        contexts = {module: data.contexts_by_lineno(str(copy / module)) for module in modules}
        lines = {module: _tests_of_lines(found) for module, found in contexts.items()}
        early = {module: frozenset(line for line in found if "" in found[line]) for module, found in contexts.items()}
        sender.send((Baseline(lines, recorder.seconds, early), _libraries()))
    return int(code)


def _tests_of_lines(contexts: dict[int, list[str]]) -> dict[int, frozenset[str]]:
    return {line: frozenset(filter(None, tests)) for line, tests in contexts.items()}


def _libraries() -> list[str]:
    """Return the imported modules of other projects. Plugins of pytest are left out: pytest must import them itself."""
    return [
        name
        for name, module in sorted(sys.modules.items())
        if "site-packages" in str(getattr(getattr(module, "__spec__", None), "origin", ""))
        and name.partition(".")[0] not in OWN
        and not name.startswith(("pytest_", "_hypothesis", "coverage", "mutmut", "libcst"))
        and importlib.util.find_spec(name.partition(".")[0]) is not None
    ]


def collected(copy: Path, tests: Sequence[str]) -> warm.Client:
    """Start a process that collects the tests and then waits for mutants.

    Args:
        copy: a copy of the checkout.
        tests: the test folders or files.
    """
    own, other = multiprocessing.Pipe()
    process = FORK_SERVER.Process(
        target=_in_copy, args=(copy, copy.with_suffix(".warm.log"), _serve, tuple(tests), other)
    )
    process.start()
    other.close()
    return warm.Client(own, process)


def _serve(tests: tuple[str, ...], connection: Connection) -> int:
    _write_no_bytecode()
    return int(pytest.main([*_options(), *tests], plugins=[warm.Server(connection)]))


def time_limit(seconds: float) -> float:
    """Return after how many seconds a test has timed out.

    Args:
        seconds: its CPU time without a mutant, or that of several tests.
    """
    return SPARE_SECONDS + SLOWNESS * seconds


@contextlib.contextmanager
def placed(copy: Path, mutant: Mutant) -> Iterator[str]:
    """Put a mutant into a copy of the checkout while the block runs. Yields the text of the module without it.

    Args:
        copy: a copy of the checkout that no other thread uses.
        mutant: the changed module.
    """
    source = copy / mutant.key.module
    original = source.read_text(encoding="utf-8")
    source.write_text(mutant.code, encoding="utf-8")
    try:
        yield original
    finally:
        source.write_text(original, encoding="utf-8")


def verdict(copy: Path, tests: Sequence[str], seconds: float) -> Verdict:
    """Run the tests of one mutant in a new process until the first of them fails.

    Args:
        copy: a copy of the checkout that no other thread uses, with the mutant in it.
        tests: the node ids of its tests.
        seconds: the CPU time of these tests without a mutant.
    """
    process = FORK_SERVER.Process(target=_in_copy, args=(copy, copy.with_suffix(".log"), _notice, tuple(tests)))
    try:
        process.start()
        process.join(START_SECONDS + time_limit(seconds))
        if process.exitcode is None:
            return Verdict.TIMED_OUT
        return Verdict.SURVIVED if process.exitcode == pytest.ExitCode.OK else Verdict.NOTICED
    finally:
        if process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.join()


def _write_no_bytecode() -> None:
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


def _options() -> list[str]:
    """Return the options of pytest in the current copy, with a folder of its own for temporary files."""
    return [*OPTIONS, f"--basetemp={Path.cwd().with_suffix('.tmp')}"]


def _notice(tests: tuple[str, ...]) -> int:
    _write_no_bytecode()
    files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
    return int(pytest.main([*_options(), *files], plugins=[Chosen(tests)]))


def _in_copy(copy: Path, log: Path, work: Callable[..., int], *arguments: Any) -> None:
    """Run `work` as a process group of its own, with the modules of the copy, and exit with its result."""
    os.setpgid(0, 0)
    with log.open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    own = [str(copy), str(copy / "operator")]
    replaced = {paths.ROOT, paths.ROOT / "operator"}
    sys.path[:] = own + [entry for entry in sys.path if entry and Path(entry).resolve() not in replaced]
    os.chdir(copy)
    os.environ["PYTHONPATH"] = os.pathsep.join(own)
    # The same examples in each run, and no search for a smaller one.
    settings.register_profile(
        "mutants",
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=(HealthCheck.too_slow,),
    )
    settings.load_profile("mutants")
    sys.exit(work(*arguments))
