"""The one file of versions and the Go modules it speaks of say the same."""

from __future__ import annotations

import re

import pytest

from dev import binaries, paths, versions


@pytest.mark.parametrize("module", versions.GO_MODULES, ids=lambda module: module.folder)
def test_a_go_module_requires_the_pinned_version(module: versions.GoModule) -> None:
    text = (paths.TOOLS / module.folder / "go.mod").read_text()
    required = dict(re.findall(r"^(?:require)?\s*(\S+) (v\S+)", text, re.MULTILINE))
    assert not module.require or required[module.require] == module.version


@pytest.mark.parametrize("module", versions.GO_MODULES, ids=lambda module: module.folder)
def test_a_go_module_asks_for_no_newer_go_than_is_checked_for(module: versions.GoModule) -> None:
    text = (paths.TOOLS / module.folder / "go.mod").read_text()
    asked = re.search(r"^go (\d+)\.(\d+)", text, re.MULTILINE)
    assert asked is not None
    assert (int(asked[1]), int(asked[2])) <= versions.GO_AT_LEAST


def test_the_staging_modules_of_kubernetes_have_its_version() -> None:
    text = (paths.TOOLS / "kubernetes" / "go.mod").read_text()
    replaced = set(re.findall(r"=> k8s\.io/\S+ (v\S+)", text))
    assert replaced == {versions.KUBERNETES.replace("v1.", "v0.")}


def test_every_folder_of_tools_is_known_and_every_program_has_one_name() -> None:
    assert {folder.name for folder in paths.TOOLS.iterdir()} == {module.folder for module in versions.GO_MODULES}
    assert len(binaries.names()) == len(set(binaries.names()))


def test_what_decides_a_program_is_in_the_name_of_its_folder() -> None:
    module = next(module for module in versions.GO_MODULES if module.folder == "kubernetes")
    folder = binaries.location(module, "kubelet").parent.parent.name
    assert folder == f"kubernetes-{versions.KUBERNETES}-{binaries.content_key(module)}"
