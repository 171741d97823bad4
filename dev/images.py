"""Container images: their inputs, their builds and their transfer to the cluster.

`dev.cluster`, the demo and the tests use this module. The tag of an image is a hash of all its inputs, so nothing is
built or copied twice. With a Docker engine, the images are loaded into kind. Without one, buildah builds them and the
node pulls them from a registry on the loopback device.
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
# The settings that pip needs inside a build to use the same package index as outside.
_PIP_SETTINGS: Final = ("index-url", "extra-index-url", "trusted-host", "cert", "proxy", "default-timeout", "retries")


@dataclass(frozen=True)
class Image:
    """The inputs of an image.

    Attributes:
        name: the name of the image, without registry and tag.
        dockerfile: the path of its Dockerfile.
        files: the build context: path inside the context -> file or folder on this machine.
        args: the build arguments.
    """

    name: str
    dockerfile: Path
    files: Mapping[str, Path] = field(default_factory=dict)
    args: Mapping[str, str] = field(default_factory=dict)

    def tag(self) -> str:
        """Return a hash of all inputs of the image."""
        digest = hashlib.sha256(self.dockerfile.read_bytes())
        for key, value in sorted(self.args.items()):
            digest.update(f"{key}={value}\0".encode())
        for inside, source in sorted(self.files.items()):
            for path in _walk(source):
                digest.update(f"{inside}/{path.relative_to(source)}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()[:16]

    def reference(self) -> str:
        """Return the image reference for the spec of a pod."""
        return f"{registry.ADDRESS}/rayworkflow/{self.name}:{self.tag()}"


def build(image: Image) -> str:
    """Build an image and make it available to the cluster, unless that was done before.

    Args:
        image: the inputs of the image.

    Returns:
        The image reference for the spec of a pod.

    Raises:
        SetupError: the build failed.
    """
    with build_lock():
        if docker.is_available():
            return _build_with_docker(image)
        registry.start()
        if not registry.has_image(f"rayworkflow/{image.name}", image.tag()):
            with stage(f"build image {image.name}"):
                _build_with_buildah(image)
    return image.reference()


def base() -> str:
    """Return the base image of the other images, a small Debian with Python. Build it if it is missing."""
    if docker.is_available():
        return versions.BASE_IMAGE_OF_DOCKER
    # The Dockerfile ignores these arguments. They make the tag depend on what debootstrap installs.
    args = {"SUITE": versions.DEBIAN_SUITE, "PACKAGES": " ".join(versions.BASE_IMAGE_PACKAGES)}
    base_image = Image("base", _DOCKERFILES / "base.Dockerfile", args=args)
    with build_lock():
        registry.start()
        if registry.has_image("rayworkflow/base", base_image.tag()):
            return base_image.reference()
        with tempfile.TemporaryDirectory(dir=paths.cache()) as scratch:
            with stage(f"install Debian {versions.DEBIAN_SUITE} for the base image"):
                _debootstrap(Path(scratch) / "rootfs")
            with stage("build image base"):
                _buildah_build(base_image, Path(scratch))
    return base_image.reference()


def ray() -> str:
    """Return an image with plain Ray. Build or pull it if it is missing."""
    if docker.is_available():
        return docker.pull_and_load(versions.RAY_IMAGE_OF_DOCKER)
    args = {"BASE_IMAGE": base(), "RAY_VERSION": versions.RAY}
    return build(Image("ray", _DOCKERFILES / "ray.Dockerfile", args=args))


def program(name: str) -> str:
    """Return an image with one program of `dev.binaries`. Build it if it is missing.

    Args:
        name: `minio`, `kuberay-operator` or `pause`.
    """
    return build(Image(name, _DOCKERFILES / f"{name}.Dockerfile", files={name: binaries.ensure(name)}))


def operator() -> str:
    """Return the image of the operator of this checkout. Build it if it is missing."""
    context = ("pyproject.toml", "README.md", "LICENSE", "workflow", "operator")
    files = {name: paths.ROOT / name for name in context}
    return build(Image("operator", paths.ROOT / "operator" / "Dockerfile", files, {"BASE_IMAGE": base()}))


def build_lock() -> contextlib.AbstractContextManager[None]:
    """Return a lock that excludes other image builds on this machine."""
    return binaries.locked(paths.cache() / "images.lock", "wait for another image build")


def _build_with_docker(image: Image) -> str:
    if not docker.has_image(image.reference()):
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
        inputs: list[str | Path] = ["-f", image.dockerfile, "-t", image.reference(), *_build_args(image), context]
        try:
            run([*buildah, "bud", *options, *inputs])
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
    for unneeded in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"):
        shutil.rmtree(rootfs / unneeded, ignore_errors=True)
    for path in (rootfs / "dev").iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    # As in the public Python image, pip may install into the system Python, and the interpreter is called `python`.
    for marker in rootfs.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        marker.unlink()
    (rootfs / "usr/bin/python").symlink_to("python3")


def _debian_mirror(suite: str) -> list[str]:
    """Return the mirror that apt uses on this machine for the suite; an empty list lets debootstrap choose."""
    filters = ("Created-By: Packages", f"Release: {suite}", "Component: main")
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", *filters], capture_output=True, text=True, check=False
    )
    return listed.stdout.split()[:1]


def _pip_settings() -> str:
    """Return the pip settings of this machine as the content of a configuration file for the build."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    return pip_configuration(listed.stdout.splitlines())


def pip_configuration(listed: Sequence[str]) -> str:
    """Convert the output of `pip config list` into the content of a pip configuration file.

    Args:
        listed: lines such as `global.index-url='...'` and `:env:.cert='...'`; a later line overrides an earlier one.
    """
    settings: dict[str, str] = {}
    for line in listed:
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        if name in _PIP_SETTINGS:
            settings[name] = value.strip("'\"")
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())
