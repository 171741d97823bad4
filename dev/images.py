"""Container images: what each is made of, built once per content and handed to the cluster.

Called by `dev.cluster`, the demo and the tests. An image's tag is a hash of all that goes into it, so a warm run builds
and moves nothing. With a Docker engine the images go into kind; without one buildah builds them and a registry on the
loopback device hands them to the node.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dev import binaries, docker, paths, registry, versions
from dev.console import run, stage

_DOCKERFILES: Final = paths.ROOT / "dev" / "dockerfiles"
_IGNORED: Final = ("__pycache__", "*.pyc", "*.egg-info", ".mypy_cache", ".ruff_cache")
_CERTIFICATES: Final = Path("/etc/ssl/certs")
# What pip needs to know inside a build to reach the same index as outside.
_PIP_SETTINGS: Final = ("index-url", "extra-index-url", "trusted-host", "cert", "proxy", "default-timeout", "retries")


@dataclass(frozen=True)
class Image:
    """What an image is made of.

    Attributes:
        name: its name, without registry and tag.
        dockerfile: how it is built.
        files: what the build sees: path inside the context -> file or folder.
        args: the build's arguments.
    """

    name: str
    dockerfile: Path
    files: Mapping[str, Path] = field(default_factory=dict)
    args: Mapping[str, str] = field(default_factory=dict)

    def tag(self) -> str:
        """A hash of all that goes into the image."""
        digest = hashlib.sha256(self.dockerfile.read_bytes())
        for key, value in sorted(self.args.items()):
            digest.update(f"{key}={value}\0".encode())
        for inside, source in sorted(self.files.items()):
            for path in _walk(source):
                digest.update(f"{inside}/{path.relative_to(source)}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()[:16]

    def reference(self) -> str:
        """The name by which the cluster's pods ask for the image."""
        return f"{registry.ADDRESS}/rayworkflow/{self.name}:{self.tag()}"


def build(image: Image) -> str:
    """Build an image and hand it to the cluster, unless the cluster has it.

    Args:
        image: what it is made of.

    Returns:
        The reference to write into a pod's spec.

    Raises:
        SetupError: the build failed.
    """
    with exclusively():
        if docker.answers():
            return _build_with_docker(image)
        registry.start()
        if not registry.holds(f"rayworkflow/{image.name}", image.tag()):
            with stage(f"build image {image.name}"):
                _build_with_buildah(image)
    return image.reference()


def base() -> str:
    """The image others stand on: a slim Debian with Python."""
    if docker.answers():
        return versions.BASE_IMAGE_OF_DOCKER
    contents = {"SUITE": versions.DEBIAN_SUITE, "PACKAGES": " ".join(versions.BASE_IMAGE_PACKAGES)}
    described = Image("base", _DOCKERFILES / "base.Dockerfile", args=contents)
    with exclusively():
        registry.start()
        if registry.holds("rayworkflow/base", described.tag()):
            return described.reference()
        with tempfile.TemporaryDirectory(dir=paths.cache()) as scratch:
            with stage(f"unpack Debian {versions.DEBIAN_SUITE} for images"):
                _debootstrap(Path(scratch) / "rootfs")
            with stage("build image base"):
                _buildah_build(described, Path(scratch))
    return described.reference()


def ray() -> str:
    """The stock Ray image."""
    if docker.answers():
        return docker.pull_and_load(versions.RAY_IMAGE_OF_DOCKER)
    args = {"BASE_IMAGE": base(), "RAY_VERSION": versions.RAY}
    return build(Image("ray", _DOCKERFILES / "ray.Dockerfile", args=args))


def program(name: str) -> str:
    """An image that holds one program of `dev.binaries` and nothing else: `minio`, `kuberay-operator`, `pause`."""
    return build(Image(name, _DOCKERFILES / f"{name}.Dockerfile", files={name: binaries.ensure(name)}))


def operator() -> str:
    """The project's own operator, from `operator/Dockerfile`, whose context is the checkout's root."""
    inside = ("pyproject.toml", "README.md", "LICENSE", "workflow", "operator")
    files = {name: paths.ROOT / name for name in inside}
    return build(Image("operator", paths.ROOT / "operator" / "Dockerfile", files, {"BASE_IMAGE": base()}))


def exclusively() -> contextlib.AbstractContextManager[None]:
    """Keep other builds of images on this machine out."""
    return binaries.locked(paths.cache() / "images.lock", "waiting for another build of images")


def _build_with_docker(image: Image) -> str:
    if not docker.holds(image.reference()):
        with stage(f"build image {image.name}"), tempfile.TemporaryDirectory() as scratch:
            context = _context(image, Path(scratch))
            run(["docker", "build", "-t", image.reference(), "-f", image.dockerfile, *_build_args(image), context])
    docker.load(image.reference())
    return image.reference()


def _build_with_buildah(image: Image) -> None:
    with tempfile.TemporaryDirectory(dir=paths.cache()) as scratch:
        _buildah_build(image, _context(image, Path(scratch)))


def _buildah_build(image: Image, context: Path) -> None:
    storage = paths.cache() / "buildah"
    buildah: list[str | Path] = [
        "buildah",
        "--root",
        storage,
        "--runroot",
        storage / "run",
        "--storage-driver",
        "overlay",
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as pip:
        pip.write(_pip_settings())
        pip.flush()
        mounts = ["-v", f"{pip.name}:/etc/pip.conf:ro"]
        if _CERTIFICATES.is_dir():
            mounts += ["-v", f"{_CERTIFICATES}:{_CERTIFICATES}:ro"]
        options = ["--isolation", "chroot", "--network", "host", "--layers", "--tls-verify=false", *mounts]
        what: list[str | Path] = ["-f", image.dockerfile, "-t", image.reference(), *_build_args(image), context]
        try:
            run([*buildah, "bud", *options, *what])
            compression = ["--format", "oci", "--compression-format", "zstd"]
            target = f"docker://{image.reference()}"
            run([*buildah, "push", "--tls-verify=false", *compression, image.reference(), target])
        finally:
            subprocess.run(["umount", storage / "overlay"], capture_output=True, check=False)


def _build_args(image: Image) -> list[str]:
    return [word for key, value in image.args.items() for word in ("--build-arg", f"{key}={value}")]


def _context(image: Image, scratch: Path) -> Path:
    for inside, source in image.files.items():
        if source.is_dir():
            shutil.copytree(source, scratch / inside, ignore=shutil.ignore_patterns(*_IGNORED))
        else:
            shutil.copy2(source, scratch / inside)
    return scratch


def _walk(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
        return
    for folder, folders, names in os.walk(source):
        ignored = shutil.ignore_patterns(*_IGNORED)(folder, [*folders, *names])
        folders[:] = sorted(set(folders) - ignored)
        yield from (Path(folder) / name for name in sorted(set(names) - ignored))


def _debootstrap(rootfs: Path) -> None:
    packages = ",".join(versions.BASE_IMAGE_PACKAGES)
    suite = versions.DEBIAN_SUITE
    run(["debootstrap", "--variant=minbase", f"--include={packages}", suite, rootfs, *_debian_mirror(suite)])
    for kept_for_nothing in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"):
        shutil.rmtree(rootfs / kept_for_nothing, ignore_errors=True)
    for path in (rootfs / "dev").iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    # An image of Python lets pip install beside the system's packages, and calls its programs by their short names.
    for marker in rootfs.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        marker.unlink()
    (rootfs / "usr/bin/python").symlink_to("python3")


def _debian_mirror(suite: str) -> list[str]:
    """The mirror this machine itself uses for the suite, or nothing, which means debootstrap's own choice."""
    wanted = ("Created-By: Packages", f"Release: {suite}", "Component: main")
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted], capture_output=True, text=True, check=False
    )
    return listed.stdout.split()[:1]


def _pip_settings() -> str:
    """What pip was told outside a build, as a configuration file for the inside."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    return pip_configuration(listed.stdout.splitlines())


def pip_configuration(listed: Sequence[str]) -> str:
    """Turn pip's own list of its settings into a configuration file.

    Args:
        listed: lines like `global.index-url='...'` and `:env:.cert='...'`; later ones win.
    """
    settings: dict[str, str] = {}
    for line in listed:
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        if name in _PIP_SETTINGS:
            settings[name] = value.strip("'\"")
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())
