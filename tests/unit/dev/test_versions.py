"""The go.mod files below dev/tools pin the versions of dev/versions.py."""

from __future__ import annotations

import re

import pytest

from dev import binaries, paths, versions


@pytest.mark.parametrize("module", versions.GO_MODULES, ids=lambda module: module.folder)
def test_go_module_requires_pinned_version(module: versions.GoModule) -> None:
    text = (paths.TOOLS / module.folder / "go.mod").read_text()
    required = dict(re.findall(r"^(?:require)?\s*(\S+) (v\S+)", text, re.MULTILINE))
    assert not module.require or required[module.require] == module.version


@pytest.mark.parametrize("module", versions.GO_MODULES, ids=lambda module: module.folder)
def test_go_module_needs_at_most_the_required_go_version(module: versions.GoModule) -> None:
    text = (paths.TOOLS / module.folder / "go.mod").read_text()
    needed = re.search(r"^go (\d+)\.(\d+)", text, re.MULTILINE)
    assert needed is not None
    assert (int(needed[1]), int(needed[2])) <= versions.GO_AT_LEAST


def test_kubernetes_staging_modules_have_matching_version() -> None:
    text = (paths.TOOLS / "kubernetes" / "go.mod").read_text()
    replaced = set(re.findall(r"=> k8s\.io/\S+ (v\S+)", text))
    assert replaced == {versions.KUBERNETES.replace("v1.", "v0.")}


def test_tool_folders_are_registered_and_program_names_unique() -> None:
    assert {folder.name for folder in paths.TOOLS.iterdir()} == {module.folder for module in versions.GO_MODULES}
    assert len(binaries.names()) == len(set(binaries.names()))


def test_folder_name_contains_version_and_content_hash() -> None:
    module = next(module for module in versions.GO_MODULES if module.folder == "kubernetes")
    folder = binaries.location(module, "kubelet").parent.parent.name
    assert folder == f"kubernetes-{versions.KUBERNETES}-{binaries.content_key(module)}"


def test_environment_is_installed_by_the_uv_of_the_project() -> None:
    assert f'"{versions.UV}"' in (paths.ROOT / "pyproject.toml").read_text()
