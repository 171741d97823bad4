"""Builds the servers and tools from the pinned Go modules, once a machine.

Called by the local cluster and by tests that start a real server (`ensure("minio")`). The result lies in the cache
under a name that says part, version and content, so that a change of any input builds anew and nothing else does.
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
from dev.console import SetupError, run, say, stage
from dev.versions import GO_MODULES, GoModule


def names() -> tuple[str, ...]:
    """Every program that can be built."""
    return tuple(program for module in GO_MODULES for program in module.programs)


def ensure(name: str) -> Path:
    """Build one program, or find it built.

    Args:
        name: one of `names()`.

    Returns:
        The program's path.

    Raises:
        SetupError: Go is missing or too old, or the build failed.
    """
    return ensure_all([name])[name]


def ensure_all(wanted: Sequence[str]) -> dict[str, Path]:
    """Build several programs, two modules at a time: one links or loads while the other compiles.

    Args:
        wanted: some of `names()`.

    Returns:
        Each program's path.

    Raises:
        SetupError: a name is unknown, Go is missing or too old, or a build failed.
    """
    unknown = sorted(set(wanted) - set(names()))
    if unknown:
        raise SetupError(f"nothing here builds {', '.join(unknown)}; known are: {', '.join(names())}")
    jobs = [(module, [name for name in module.programs if name in wanted]) for module in GO_MODULES]
    jobs = [(module, programs) for module, programs in jobs if programs]
    missing = [job for job in jobs if not all(location(job[0], name).exists() for name in job[1])]
    if missing:
        check_go()
        with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
            for built in [pool.submit(_build_locked, module, programs) for module, programs in missing]:
                built.result()
    return {name: location(module, name) for module, programs in jobs for name in programs}


def location(module: GoModule, program: str) -> Path:
    """Where a program of a module lies once built: the name says the module's version and content."""
    return paths.cache() / f"{module.folder}-{module.version}-{content_key(module)}" / "bin" / program


def content_key(module: GoModule) -> str:
    """A short hash of all that decides what the module's programs are."""
    digest = hashlib.sha256(" ".join((*module.ldflags, *module.assets)).encode())
    for source in sorted(_folder(module).iterdir()):
        if source.suffix == ".go" or source.name in ("go.mod", "go.sum"):
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:12]


def asset(program: str, name: str) -> Path:
    """A folder of a module that was kept beside its program (KubeRay's manifests), once the program is built.

    Args:
        program: one of `names()`.
        name: the folder's name.
    """
    return ensure(program).parent.parent / name


def check_go() -> None:
    """See that a Go new enough is there.

    Raises:
        SetupError: it is not; the text says which is needed.
    """
    needed = ".".join(map(str, versions.GO_AT_LEAST))
    remedy = f"install Go {needed} or newer and put it on PATH"
    try:
        told = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True, cwd="/").stdout
    except (FileNotFoundError, subprocess.CalledProcessError) as failed:
        raise SetupError(f"`go` does not run: {remedy}") from failed
    found = re.match(r"go(\d+)\.(\d+)", told)
    if found is None or (int(found[1]), int(found[2])) < versions.GO_AT_LEAST:
        raise SetupError(f"Go is {told.strip()}, too old: {remedy}")


def _build_locked(module: GoModule, programs: Sequence[str]) -> None:
    with locked(paths.cache() / f"{module.folder}.lock", f"waiting for another build of {module.folder}"):
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
            # Builds give way to tests that run meanwhile, which have deadlines.
            build: list[str | Path] = ["nice", "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags]
            run([*build, "-o", output, module.programs[name]], cwd=_folder(module), env=_environment())
            output.rename(target / name)


def _folder(module: GoModule) -> Path:
    return paths.TOOLS / module.folder


def _environment() -> dict[str, str]:
    # Without CGO_ENABLED=0 the programs do not start in an image that holds nothing else.
    return {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}


@contextlib.contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold a lock between processes; the kernel frees it when the holder dies.

    Args:
        path: the lock file.
        waiting: what to say when another process holds it.
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
    """Build the programs named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="python -m dev.binaries", description=main.__doc__)
    parser.add_argument("names", nargs="*", help=", ".join(names()))
    for name, path in ensure_all(parser.parse_args().names or names()).items():
        say(f"{name:<24} {path}")


if __name__ == "__main__":
    main()
