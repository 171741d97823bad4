"""The tag of an image depends on its inputs, and image builds use the pip settings of the machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dev import images


@pytest.fixture
def image(tmp_path: Path) -> images.Image:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM scratch\nCOPY code /code\n")
    code = tmp_path / "code"
    code.mkdir()
    (code / "main.py").write_text("print(1)\n")
    return images.Image("trial", dockerfile, {"code": code}, {"BASE_IMAGE": "slim"})


def test_same_inputs_give_same_tag(image: images.Image) -> None:
    assert image.tag() == replace(image).tag()


def test_each_input_changes_tag(image: images.Image) -> None:
    tags = {image.tag(), replace(image, args={"BASE_IMAGE": "other"}).tag()}
    source = image.files["code"] / "main.py"
    source.write_text("print(2)\n")
    tags.add(image.tag())
    source.rename(source.with_name("other.py"))
    tags.add(image.tag())
    image.dockerfile.write_text("FROM scratch\n")
    tags.add(image.tag())
    assert len(tags) == 5


def test_python_bytecode_does_not_change_tag(image: images.Image) -> None:
    before = image.tag()
    bytecode = image.files["code"] / "__pycache__"
    bytecode.mkdir()
    (bytecode / "main.cpython-311.pyc").write_bytes(b"x")
    assert image.tag() == before


@pytest.mark.parametrize(
    ("listed", "settings"),
    [
        pytest.param([], "", id="nothing set"),
        pytest.param(
            ["global.index-url='https://index.example/simple'"], "index-url = https://index.example/simple\n", id="file"
        ),
        pytest.param([":env:.cert='/etc/ca.crt'"], "cert = /etc/ca.crt\n", id="environment"),
        pytest.param(["global.retries='1'", ":env:.retries='9'"], "retries = 9\n", id="later line overrides"),
        pytest.param([":env:.find-links='/opt/wheels'"], "", id="local folder ignored"),
    ],
)
def test_pip_settings_are_passed_to_build(listed: list[str], settings: str) -> None:
    assert images.pip_configuration(listed) == "[global]\n" + settings
