"""Builds servers and tools from the pinned Go modules, once per machine.

The local cluster uses this module, and so do tests that start a real server (`ensure("minio")`). The name of each
folder in the cache contains the module, its version and a content hash. Only a changed input causes a new build.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from dev import paths, versions
from dev.console import SetupError, print_line, run, stage
from dev.versions import GO_MODULES, GoModule


def names() -> tuple[str, ...]:
    """Return the names of all programs that can be built."""
    return tuple(program for module in GO_MODULES for program in module.programs)


def ensure(name: str) -> Path:
    """Build one program unless it is in the cache.

    Args:
        name: one of `names()`.

    Returns:
        The path of the program.

    Raises:
        SetupError: Go is missing or too old, or the build failed.
    """
    return ensure_all([name])[name]


def ensure_all(wanted: Sequence[str]) -> dict[str, Path]:
    """Build several programs unless they are in the cache.

    Two modules are built at the same time: one can link or download while the other compiles.

    Args:
        wanted: some of `names()`.

    Returns:
        The path of each program, by name.

    Raises:
        SetupError: a name is unknown, Go is missing or too old, or a build failed.
    """
    unknown = sorted(set(wanted) - set(names()))
    if unknown:
        raise SetupError(f"cannot build {', '.join(unknown)}: unknown program; choose from {', '.join(names())}")
    jobs = [(module, [name for name in module.programs if name in wanted]) for module in GO_MODULES]
    jobs = [(module, programs) for module, programs in jobs if programs]
    missing = [job for job in jobs if not all(location(job[0], name).exists() for name in job[1])]
    if missing:
        check_go()
        with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
            for build in [pool.submit(_build_locked, module, programs) for module, programs in missing]:
                build.result()
    return {name: location(module, name) for module, programs in jobs for name in programs}


def location(module: GoModule, program: str) -> Path:
    """Return the path of a program after its build. The path contains the version and the content hash."""
    return paths.cache() / f"{module.folder}-{module.version}-{content_key(module)}" / "bin" / program


def content_key(module: GoModule) -> str:
    """Return a short hash of all inputs of the build of a module."""
    digest = hashlib.sha256(" ".join((*module.ldflags, *module.assets)).encode())
    for source in sorted(_folder(module).iterdir()):
        if source.suffix == ".go" or source.name in ("go.mod", "go.sum"):
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:12]


def asset(program: str, name: str) -> Path:
    """Build a program and return a source folder of its module, for example the manifests of KubeRay.

    Args:
        program: one of `names()`.
        name: the name of the folder, one of the `assets` of the module.
    """
    return ensure(program).parent.parent / name


def check_go() -> None:
    """Check that Go is installed and new enough.

    Raises:
        SetupError: Go is missing or too old. The message names the version that is needed.
    """
    needed = ".".join(map(str, versions.GO_AT_LEAST))
    remedy = f"install Go {needed} or newer and put it on PATH"
    try:
        output = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True, cwd="/").stdout
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise SetupError(f"cannot build Go programs: `go` does not run; {remedy}") from error
    version = re.match(r"go(\d+)\.(\d+)", output)
    if version is None or (int(version[1]), int(version[2])) < versions.GO_AT_LEAST:
        raise SetupError(f"cannot build Go programs: {output.strip()} is too old; {remedy}")


def _build_locked(module: GoModule, programs: Sequence[str]) -> None:
    with locked(paths.cache() / f"{module.folder}.lock", f"wait for another build of {module.folder}"):
        absent = [name for name in programs if not location(module, name).exists()]
        if absent:
            with stage(f"build {', '.join(absent)} {module.version}"):
                _build(module, absent)


def _build(module: GoModule, programs: Sequence[str]) -> None:
    target = location(module, programs[0]).parent
    target.mkdir(parents=True, exist_ok=True)
    for name in module.assets:
        run(["go", "mod", "download", module.require], cwd=_folder(module), env=_environment())
        listed = run(["go", "list", "-m", "-f", "{{.Dir}}", module.require], cwd=_folder(module), env=_environment())
        shutil.copytree(Path(listed.strip()) / name, target.parent / name, dirs_exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        flags = " ".join(("-s -w", *module.ldflags))
        for name in programs:
            output = Path(scratch) / name
            # `nice` leaves the CPUs to tests that run at the same time, because tests have deadlines.
            build: list[str | Path] = ["nice", "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags]
            run([*build, "-o", output, module.programs[name]], cwd=_folder(module), env=_environment())
            output.rename(target / name)


def _folder(module: GoModule) -> Path:
    return paths.TOOLS / module.folder


def _environment() -> dict[str, str]:
    # A program that is linked dynamically does not start in an image without a C library.
    return {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}


@contextlib.contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold a lock that excludes other processes. The kernel releases it if this process dies.

    Args:
        path: the lock file.
        waiting: the name of the stage that is printed while another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with stage(waiting):
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main() -> None:
    """Build the programs that the command line names, or all programs."""
    parser = argparse.ArgumentParser(prog="python -m dev.binaries", description=main.__doc__)
    parser.add_argument("names", nargs="*", help=", ".join(names()))
    for name, path in ensure_all(parser.parse_args().names or names()).items():
        print_line(f"{name:<24} {path}")


if __name__ == "__main__":
    main()
